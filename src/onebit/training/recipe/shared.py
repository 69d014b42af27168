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
        None, "a constant that multiplies the logits of a binary network; null: none", above=0
    )
    learned_scales: bool = key(
        False,
        "the scale of each output of a binary layer is a parameter, which starts at its scheme's scale (elastic binarisation)",
    )
    warm_start: str | None = key(
        None,
        "a run folder; latents start from its weights of the same name and shape. Null: they start at random",
    )


@dataclass(frozen=True)
class SchemeParts(Section):
    """The scheme of the binary layers, and parts of it that the recipe changes; any other option of the scheme is a key too."""

    section: ClassVar[str] = "scheme"

    name: str = key(
        "BinaryNormalized",
        "the method that makes bits of latents, one of `onebit.schemes`",
        short="scheme",
    )
    values: Literal["unipolar", "bipolar"] | None = key(
        None,
        "unipolar: a bit is 0 or 1; bipolar: it is -1 or +1; null: as the scheme has it. Of BinaryNormalized and Bipolar",
    )
    threshold: Literal["layer", "output"] | None = key(
        None,
        "a latent is compared with the mean of its layer (the paper) or of its output; null: as the scheme has it. Of BinaryNormalized and Bipolar",
    )
    latent_spread: float | None = key(
        None, "spread of the initial latents, as a multiple of Glorot's; null: as the scheme has it", above=0
    )
    latent_clip: float | None = key(
        None, "training keeps latents between minus and plus this; null: as the scheme has it", above=0
    )
    options: dict[str, Any] = field(default_factory=dict)
    """Other options of the scheme."""

    def __post_init__(self) -> None:
        if isinstance(self.name, str) and "(" in self.name:  # as version 0.1.0 has it
            name, options = _split(self.name)
            for twice in sorted(options.keys() & self.options.keys()):
                raise RecipeError(f"scheme.{twice} is given twice, in the name too: keep one")
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

    name: Literal["adam", "sgd", "bop", "muon"] = key(
        "adam",
        "adam (AdamW for text); sgd, with Nesterov's momentum; bop, which flips bits without latents (`onebit.optim.Bop`); or muon, which makes the "
        "steps of dense layers orthogonal matrices, as large as those of adam. Bop and muon leave other parameters to adam",
        short="optimizer",
    )
    learning_rate: float = key(1e-3, "the highest learning rate of the schedule", above=0)
    momentum: float = key(0.9, "how much of the step before sgd adds to a step", least=0, below=1)
    weight_decay: float = key(0.0, "weight decay of adam, sgd and muon", least=0)
    weight_decay_until: float = key(1.0, "share of the training after which weight decay ends", above=0, most=1)
    batch_size: int = key(64, "images or texts in a batch, on all devices together", least=1)
    accumulate: int = key(1, "batches whose gradients are added up for one step", least=1)
    clip: float | None = key(None, "the largest norm of a step's gradient; null: no limit", above=0)
    embedding_rate: float = key(1.0, "learning rate of embeddings, as a multiple of that of other parameters", above=0)
    pull: float = key(
        0.0,
        "strength, at the end of training, of a regulariser that pulls latents to the two values of their bits",
        least=0,
    )
    cage: float = key(
        0.0,
        "strength, at the end of training, of the step that draws latents to the two values of their bits (CAGE); its authors have 10",
        least=0,
    )
    estimator: str = key(
        "straight-through",
        "how training takes the step from latents to bits: straight-through, ReSTE, EDE, BinaryRelax or StochasticBits, with options as "
        "in ReSTE(last=2)",
    )
    head_share: float = key(
        1.0,
        "share of the weights that a last layer of floats keeps: training prunes the smallest, and the packed file stores the others",
        above=0,
        most=1,
    )
    head_pruning_begins: float = key(
        0.1, "share of the training after which the last layer is pruned", least=0, below=1
    )
    head_pruning_ends: float = key(
        0.7, "share of the training after which the last layer has lost all that it loses", above=0, most=1
    )
    bop_gamma: float = key(1e-4, "how short the memory of bop is; it follows the schedule", above=0, most=1)
    bop_threshold: float = key(1e-8, "the mean gradient above which bop flips a bit", least=0)
    muon_steps: int = key(
        5, "steps of Newton and Schulz towards an orthogonal matrix, in each step of muon", least=1, most=20
    )

    def check(self) -> None:
        fits = self.head_pruning_begins < self.head_pruning_ends
        require(fits, "head_pruning_begins", self.head_pruning_begins, "less than head_pruning_ends")
        for name, usual in (("pull", 0), ("cage", 0), ("estimator", "straight-through")):
            value = getattr(self, name)
            require(self.name != "bop" or value == usual, name, value, "optimizer=adam with it: bop has no latents")

    @cached_property
    def made(self) -> Any:
        """The estimator, or None; raises RecipeError where it is none."""
        from onebit.schemes import parse_estimator

        try:
            return parse_estimator(self.estimator)
        except ValueError as error:
            raise RecipeError(str(error)) from None


@dataclass(frozen=True)
class Schedule(Section):
    """How long is trained, and how the learning rate rises and falls."""

    section: ClassVar[str] = "schedule"

    name: Literal["constant", "linear", "cosine"] = key(
        "cosine", "how the learning rate goes on after the warm-up", short="schedule"
    )
    epochs: int = key(
        10, "times that each training image is seen; of text, times that epoch_steps are trained", least=1
    )
    warmup: int = key(
        0, "steps (or epochs, see schedule_unit) in which the learning rate rises to its highest", least=0
    )
    decay: int | None = key(None, "steps (or epochs) from the start until the learning rate is 0; null: all", least=1)
    unit: Literal["step", "epoch"] = key("step", "what warmup and decay count", short="schedule_unit")
    first_stage_epochs: int = key(
        0,
        "epochs of a first stage that quantises activations only; the second quantises weights too. Each has a whole schedule",
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
        None, "a run folder of the same task; its network teaches this one. Null: none", short="teacher"
    )
    weight: float = key(
        0.5, "weight of the teacher's logits; the labels have the rest", least=0, most=1, short="distill_weight"
    )
    temperature: float = key(
        4.0, "temperature by which the logits of both networks are divided", above=0, short="distill_temperature"
    )
    features: tuple[str, ...] | None = key(
        None,
        "names of layers whose outputs learn from the teacher's, or ours=theirs where names differ; null: none",
        short="distill_features",
    )
    feature_weight: float = key(1.0, "weight of the loss of these layers", least=0, short="distill_feature_weight")

    def check(self) -> None:
        fits = self.run is not None or not self.features
        require(fits, "distill_features", self.features, "it with a teacher")


@dataclass(frozen=True)
class Execution(Section):
    """How the machine trains."""

    section: ClassVar[str] = "run"

    seed: int = key(0, "seed of the initial latents, the order, the augmentation and the splits", least=0)
    threads: int | None = key(None, "threads of PyTorch; null: one for each core", least=1)
    precision: Literal["auto", "float32", "bf16"] = key(
        "auto", "what is computed in; auto: bfloat16 where the machine multiplies faster in it"
    )
    compile: bool = key(
        False,
        "compiles the network by torch.compile: a minute at the start, and quicker steps. It needs a C++ compiler",
    )
