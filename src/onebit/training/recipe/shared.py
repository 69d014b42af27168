"""The sections that recipes of all kinds have."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from onebit.errors import RecipeError
from onebit.training.recipe.section import Section, key
from onebit.training.recipe.values import require


@dataclass(frozen=True)
class Data(Section):
    """What is trained on."""

    section: ClassVar[str] = "data"

    source: str


@dataclass(frozen=True)
class Model(Section):
    """The network."""

    section: ClassVar[str] = "model"

    binary: bool = key(True, "false trains the float twin")
    logit_scale: float | None = key(
        None, "a constant that multiplies the logits of a binary network; null for none", above=0
    )
    warm_start: str | None = key(
        None,
        "a run folder whose weights the latents start from, by name and shape; null: they start as the network has it",
    )


@dataclass(frozen=True)
class SchemeParts(Section):
    """The scheme of the binary layers, and parts of it that the recipe changes; any other option of the scheme is a key too."""

    section: ClassVar[str] = "scheme"

    name: str = key("BinaryNormalized", "one of `onebit.schemes`", short="scheme")
    values: Literal["unipolar", "bipolar"] | None = key(
        None, "how a bit reads: 0 and 1, or -1 and +1; null: as the scheme has it. BinaryNormalized and Bipolar only"
    )
    threshold: Literal["layer", "output"] | None = key(
        None,
        "whose latents' mean a bit is compared with, layer (the paper) or output; null: as the scheme has it. BinaryNormalized and Bipolar only",
    )
    latent_spread: float | None = key(
        None, "of the initial latents, as a multiple of Glorot's; null: as the scheme has it", above=0
    )
    latent_clip: float | None = key(
        None, "training keeps latents within plus and minus this; null: as the scheme has it", above=0
    )
    options: dict[str, Any] = field(default_factory=dict)
    """Other options of the scheme."""

    def __post_init__(self) -> None:
        if isinstance(self.name, str) and "(" in self.name:  # as version 0.1.0 has it
            name, options = _split(self.name)
            object.__setattr__(self, "options", {**self.options, **options})
            object.__setattr__(self, "name", name)
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """The name, and what is not as the scheme has it."""
        return {name: value for name, value in super().to_dict().items() if value is not None} | self.options

    @cached_property
    def made(self) -> Any:
        """The scheme; raises RecipeError where a part does not go with it."""
        from dataclasses import replace

        from onebit.quantizers import MeanThreshold
        from onebit.schemes import parse_scheme

        try:
            scheme = parse_scheme({**self.options, "name": self.name})
            parts = self._parts()
            weights = scheme.weights
            for name in ("values", "threshold"):
                fits = getattr(self, name) is None or isinstance(weights, MeanThreshold)
                require(fits, name, getattr(self, name), "it with BinaryNormalized or Bipolar")
            if isinstance(weights, MeanThreshold):
                parts["weights"] = replace(
                    weights, values=self.values or weights.values, per=self.threshold or weights.per
                )
            return replace(scheme, **parts)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    def _parts(self) -> dict[str, Any]:
        """What is changed of the scheme, but for its weights."""
        parts = {"latent_spread": self.latent_spread, "clip_latents": self.latent_clip}
        return {name: value for name, value in parts.items() if value is not None}


def _split(text: str) -> tuple[str, dict[str, Any]]:
    from onebit.schemes import split_scheme

    try:
        return split_scheme(text)
    except ValueError as error:
        raise RecipeError(str(error)) from None


@dataclass(frozen=True)
class Optimizer(Section):
    """How latents and other parameters change in a step."""

    section: ClassVar[str] = "optimizer"

    name: Literal["adam", "bop"] = key(
        "adam",
        "adam (AdamW for text), or bop, which flips bits without latents and leaves the other parameters to adam; see `onebit.optim.Bop`",
        short="optimizer",
    )
    learning_rate: float = key(1e-3, "the highest of the schedule", above=0)
    weight_decay: float = key(0.0, "of adam", least=0)
    batch_size: int = key(64, "images or texts in a step, of all devices together", least=1)
    accumulate: int = key(1, "batches whose gradients make one step", least=1)
    clip: float | None = key(None, "the largest norm of a step's gradient; null for no limit", above=0)
    embedding_rate: float = key(1.0, "the learning rate of embeddings, as a multiple of the others'", above=0)
    pull: float = key(
        0.0,
        "strength at the end of training of a regulariser that pulls latents to the two values of their bits; 0 for none",
        least=0,
    )
    bop_gamma: float = key(1e-4, "of bop: how short its memory is; it follows the schedule", above=0, most=1)
    bop_threshold: float = key(1e-8, "of bop: the gradient that flips a bit", least=0)

    def check(self) -> None:
        require(self.name == "adam" or not self.pull, "pull", self.pull, "optimizer=adam with it: bop has no latents")


@dataclass(frozen=True)
class Schedule(Section):
    """How long is trained, and how the learning rate rises and falls."""

    section: ClassVar[str] = "schedule"

    name: Literal["constant", "linear", "cosine"] = key(
        "cosine", "of the learning rate after the warm-up", short="schedule"
    )
    epochs: int = key(10, "how often each training image is seen; of text, how many stretches of epoch_steps", least=1)
    warmup: int = key(0, "steps (or epochs, see unit) in which the learning rate rises to its highest", least=0)
    decay: int | None = key(
        None, "steps (or epochs) from the start until the rate reaches 0; null: the end of training", least=1
    )
    unit: Literal["step", "epoch"] = key("step", "what warmup and decay count", short="schedule_unit")
    first_stage_epochs: int = key(
        0,
        "so many of the epochs quantise activations only and keep weights float; then both, with a schedule of its own",
        least=0,
    )

    def check(self) -> None:
        fits = self.first_stage_epochs < self.epochs
        require(fits, "first_stage_epochs", self.first_stage_epochs, "fewer than epochs")


@dataclass(frozen=True)
class Teaching(Section):
    """A trained network to learn from."""

    section: ClassVar[str] = "teacher"

    run: str | None = key(
        None, "a run folder of the same task whose network is learned from too; null for none", short="teacher"
    )
    weight: float = key(0.5, "of the teacher's logits against the labels", least=0, most=1, short="distill_weight")
    temperature: float = key(4.0, "softens both networks' logits", above=0, short="distill_temperature")
    features: tuple[str, ...] | None = key(
        None,
        "names of layers whose outputs are to look where the teacher's look; ours=theirs where names differ; null for none",
        short="distill_features",
    )
    feature_weight: float = key(1.0, "of these", least=0, short="distill_feature_weight")

    def check(self) -> None:
        fits = self.run is not None or not self.features
        require(fits, "distill_features", self.features, "it with a teacher")


@dataclass(frozen=True)
class Execution(Section):
    """How the machine trains."""

    section: ClassVar[str] = "run"

    seed: int = key(0, "of latents, order, augmentation and splits", least=0)
    threads: int | None = key(None, "of PyTorch; null: one for each core", least=1)
    precision: Literal["auto", "float32", "bf16"] = key(
        "auto", "auto (bfloat16 where the machine multiplies faster in it), float32 or bf16"
    )
    compile: bool = key(
        False,
        "trains by torch.compile, which takes a minute at the start and makes steps quicker; without a C++ compiler training goes on without",
    )
