"""Recipes: what to train, on what, and how; typed keys in YAML, each of which a flag overrides."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
import yaml

from onebit.errors import RecipeError, shown
from onebit.paths import expand
from onebit.quantizers import VALUES, MeanThreshold
from onebit.schemes import BinaryNormalized, Bipolar, Scheme, parse_scheme


@dataclass(frozen=True)
class Recipe:
    """What decides a training run of any kind. A run with the same recipe on the same machine gives the same network.

    The keys and their meaning:

    Args:
        data: what to train on; see `ImageRecipe` and `TextRecipe`.
        binary: false trains the float twin.
        values: unipolar (0 and 1) or bipolar (-1 and +1), how a bit reads; null: as the scheme has it. "01" and "pm1" are read too.
        threshold: layer (the paper) or output, whose latents' mean a bit is compared with; null: as the scheme has it.
        latent_spread: of the initial latents, as a multiple of Glorot's; null: as the scheme has it.
        latent_clip: training keeps latents within plus and minus this; null: as the scheme has it. With BinaryNormalized and Bipolar only.
        logit_scale: a constant that multiplies the logits of a binary network; null for none.
        epochs: how often each training image is seen; of text, how many stretches of epoch_steps.
        batch_size: images or texts in a step.
        optimizer: adam (AdamW for text), or bop, which flips bits without latents and leaves the other parameters to adam; see `onebit.optim.Bop`.
        bop_gamma, bop_threshold: of bop; the schedule lets gamma rise and fall too.
        pull: strength at the end of training of a regulariser that pulls latents to the two values of their bits; 0 for none.
        warm_start: a run folder whose weights the latents start from, by name and shape; null: they start as the network has it.
        first_stage_epochs: so many of the epochs quantise activations only and keep weights float; then both, with a schedule of its own.
        teacher: a run folder of the same task whose network is learned from too; null for none.
        distill_weight: of the teacher's logits against the labels, 0 to 1.
        distill_temperature: softens both networks' logits.
        distill_features: names of layers whose outputs are to look where the teacher's look; ours=theirs where names differ. Null for none.
        distill_feature_weight: of these.
        learning_rate: the highest of the schedule.
        weight_decay: the optimiser's.
        embedding_rate: the learning rate of embeddings, as a multiple of the others'.
        accumulate: batches whose gradients make one step.
        clip: the largest norm of a step's gradient; null for no limit.
        warmup: steps (or epochs, see schedule_unit) in which the learning rate rises to its highest.
        schedule: constant, linear or cosine, after the warm-up.
        decay: steps (or epochs) from the start until the rate reaches 0; null: the end of training.
        schedule_unit: step or epoch, what warmup and decay count.
        precision: auto (bfloat16 where the machine multiplies faster in it), float32 or bf16.
        compile: trains by torch.compile, which takes a minute at the start and makes steps quicker; without a C++ compiler training goes on without.
        seed: of latents, order, augmentation and splits.
        threads: of PyTorch; null: one for each core.
    """

    # Whether a sharded network of this kind is worth its traffic, and whether Adam's weight decay is decoupled from its gradients (AdamW).
    shardable: ClassVar[bool] = False
    decoupled_weight_decay: ClassVar[bool] = False

    data: str = ""
    binary: bool = True
    values: Literal["unipolar", "bipolar"] | None = None
    threshold: Literal["layer", "output"] | None = None
    latent_spread: float | None = None
    latent_clip: float | None = None
    logit_scale: float | None = None
    epochs: int = 10
    batch_size: int = 64
    optimizer: Literal["adam", "bop"] = "adam"
    bop_gamma: float = 1e-4
    bop_threshold: float = 1e-8
    pull: float = 0.0
    warm_start: str | None = None
    first_stage_epochs: int = 0
    teacher: str | None = None
    distill_weight: float = 0.5
    distill_temperature: float = 4.0
    distill_features: tuple[str, ...] | None = None
    distill_feature_weight: float = 1.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    embedding_rate: float = 1.0
    accumulate: int = 1
    clip: float | None = None
    warmup: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    decay: int | None = None
    schedule_unit: Literal["step", "epoch"] = "step"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: bool = False
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for key, hint in _key_types(type(self)).items():
            object.__setattr__(self, key, _fitting(key, getattr(self, key), hint))
        self._at_least(1, "epochs", "batch_size")
        self._at_least(1, "threads", "decay", "accumulate")
        self._at_least(0, "weight_decay", "warmup", "seed", "pull", "bop_threshold")
        self._at_least(0, "first_stage_epochs", "distill_feature_weight")
        self._above_zero("learning_rate", "logit_scale", "distill_temperature", "latent_spread", "latent_clip")
        self._above_zero("embedding_rate", "clip")
        _require(0 < self.bop_gamma <= 1, "bop_gamma", self.bop_gamma, "a number above 0, at most 1")
        _require(0 <= self.distill_weight <= 1, "distill_weight", self.distill_weight, "a number from 0 to 1")
        for key in ("optimizer", "pull", "first_stage_epochs"):
            fits = self.binary or getattr(self, key) in ("adam", 0)
            _require(fits, key, getattr(self, key), "it with binary=true only")
        for key, why in (("pull", "bop has no latents"), ("first_stage_epochs", "bop has no float weights")):
            fits = self.optimizer == "adam" or not getattr(self, key)
            _require(fits, key, getattr(self, key), f"optimizer=adam with it: {why}")
        _require(
            self.first_stage_epochs < self.epochs, "first_stage_epochs", self.first_stage_epochs, "fewer than epochs"
        )
        fits = self.teacher is not None or not self.distill_features
        _require(fits, "distill_features", self.distill_features, "it with a teacher")

    @property
    def composed_scheme(self) -> Scheme:
        """The scheme that the recipe names, with what its keys say of it."""
        raise NotImplementedError

    def _scheme_with_keys(self, name: str, **parts: Any) -> Scheme:
        scheme = parse_scheme(name)
        if self.latent_spread is not None:
            parts["latent_spread"] = self.latent_spread
        if isinstance(scheme, BinaryNormalized):
            if self.latent_clip is not None:
                parts["clip_latents"] = self.latent_clip
            own = scheme.weights
            if isinstance(own, MeanThreshold):
                parts["weights"] = MeanThreshold(self.values or own.values, self.threshold or own.per)
        return replace(scheme, **parts)

    def _at_least(self, least: int, *keys: str) -> None:
        """Refuse keys with numbers below `least`; null passes where the key's type lets it."""
        for key in keys:
            value = getattr(self, key)
            numbers = value if isinstance(value, tuple) else (value,)
            holds = all(number is None or number >= least for number in numbers) and len(numbers) > 0
            _require(holds, key, value, f"numbers from {least} up" if isinstance(value, tuple) else f"{least} or more")

    def _above_zero(self, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            _require(value is None or value > 0, key, value, "a number above 0")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, every key, with its kind."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        kind = next(name for name, recipe in KINDS.items() if isinstance(self, recipe))
        return {"kind": kind, **plain}

    def to_yaml(self) -> str:
        """The recipe as YAML, every key."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def override(self, values: Mapping[str, Any], where: str = "recipe") -> Self:
        """The recipe with other values for some keys; raises RecipeError where a key is unknown or a value does not fit."""
        _check_mapping(values, where)
        hints = _key_types(type(self))
        changes = {}
        for key, value in values.items():
            name = str(key)[:LONGEST_KEY].replace("-", "_")
            if name not in hints:
                close = difflib.get_close_matches(name, hints, 1)
                meant = f"; did you mean {close[0]!r}?" if close else f": use one of {', '.join(hints)}"
                raise RecipeError(f"[{where}] unknown key {shown(key)}{meant}")
            changes[name] = value
        try:
            return replace(self, **changes)
        except RecipeError as error:
            raise RecipeError(f"[{where}] {error}") from None


CELLS = ("lstm", "gru")
# Keys that say something of the paper's schemes, with what they were by default in version 0.1.0; other networks have it of their scheme.
OF_THE_SCHEME: dict[str, Any] = {
    "values": "unipolar",
    "normalize": "channel",
    "threshold": "layer",
    "latent_spread": 1.0,
    "latent_clip": None,
}
MODELS = ("classifier", "mlp", "vgg", "alexnet", "mobile-net", *CELLS)


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """What decides the training of a classifier of images; optimised by Adam.

    The keys beyond those of `Recipe`:

    Args:
        data: digits, cifar10, food101, mnist, fashion-mnist, or a path to a folder of images or IDX files.
        image_size: [height, width] in pixels; null keeps the data's own.
        channels: 1 (grey) or 3 (RGB).
        validation_share: of the training images, to choose the best epoch by; 0: the last epoch counts, test images are only watched.
        train_limit: at most so many training images, balanced over the classes; null for all.
        augment: none, flip (left to right), or crop-flip (also shifted by up to an eighth of the side).
        model: classifier (the paper's, `onebit.models.conv_classifier`), or one of the literature's: mlp, vgg, alexnet, mobile-net, or resnet8,
            resnet20, resnet110, ... (32x32), resnet18, resnet34 (large images); or lstm, gru, which read an image line by line.
        scheme: Bipolar or BinaryNormalized (the paper's); the literature's networks take any, such as XnorNet or DoReFa(weights=1, activations=2);
            see `onebit.schemes`. A recipe that names none, but says values, normalize or the like, means BinaryNormalized.
        width: multiplies the widths of alexnet, mobile-net and the resnets.
        hybrid: the literature's networks keep their first and last layer float.
        kernel_size, batch_norm: of the paper's network; see `onebit.models.conv_classifier`.
        normalize: of the paper's network, what the sums of a layer are normalised over: channel, example or batch; null: nothing; scheme: as that
            has it.
        widths, hidden: of the paper's network, of vgg (both), mlp (hidden), and lstm and gru: as many layers as numbers, all of one size.
    """

    data: str = "digits"
    image_size: tuple[int, int] | None = None
    channels: Literal[1, 3] = 3
    validation_share: float = 0.0
    train_limit: int | None = None
    augment: Literal["none", "flip", "crop-flip"] = "none"
    model: str = "classifier"
    scheme: str = ""
    width: float = 1.0
    hybrid: bool = True
    kernel_size: int = 3
    widths: str | tuple[int, ...] = "counted"
    hidden: tuple[int, ...] | None = None
    normalize: Literal["scheme", "channel", "example", "batch"] | None = "scheme"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle_scheme()
        self._at_least(1, "kernel_size", "train_limit", "image_size", "hidden")
        self._above_zero("width")
        depth = self.model.removeprefix("resnet")
        known = self.model in MODELS or (depth != self.model and depth.isdecimal())
        _require(known, "model", self.model, f"{', '.join(MODELS)}, or resnet and a depth")
        fits = self.model not in CELLS or self.hidden is None or len(set(self.hidden)) == 1
        _require(fits, "hidden", self.hidden, "layers of one size with a recurrent network")
        _require(0 <= self.validation_share < 1, "validation_share", self.validation_share, "0 or more, below 1")
        if isinstance(self.widths, str):
            known = self.widths in ("counted", "listed")
            _require(known, "widths", self.widths, "counted, listed or a list of channels")
        else:
            self._at_least(1, "widths")
        _require(
            not (self.binary and self.batch_norm),
            "batch_norm",
            True,
            "binary=false with it, or normalize=batch instead",
        )

    def _settle_scheme(self) -> None:
        """Name the scheme where none is named, and leave the keys of the paper's schemes out of other networks."""
        unset = {key: getattr(ImageRecipe, key) for key in OF_THE_SCHEME}
        if not self.scheme:
            given = any(getattr(self, key) != unset[key] for key in OF_THE_SCHEME)
            object.__setattr__(self, "scheme", "BinaryNormalized" if given else "Bipolar")
        _check_scheme(self.scheme)
        if self.model == "classifier":
            fits = isinstance(parse_scheme(self.scheme), BinaryNormalized)
            _require(fits, "scheme", self.scheme, "Bipolar or BinaryNormalized with model=classifier, or another model")
            return
        for key, was in OF_THE_SCHEME.items():
            fits = getattr(self, key) in (unset[key], was) or key in ("values", "normalize")
            _require(fits, key, getattr(self, key), "it with model=classifier: other networks have it of their scheme")
            object.__setattr__(self, key, unset[key])

    @property
    def composed_scheme(self) -> Scheme:
        if self.model in CELLS and self.scheme == "Bipolar":
            return Bipolar().of_sequences  # the lines of an image are steps
        parts = {} if self.normalize == "scheme" else {"normalize": self.normalize}
        return self._scheme_with_keys(self.scheme, **parts)

    def override(self, values: Mapping[str, Any], where: str = "recipe") -> Self:
        _check_mapping(values, where)
        # What a recipe says of the paper's network, or of its scheme, is not to stand in the way of another's.
        given = {str(key).replace("-", "_") for key in values}
        model = values.get("model", self.model)
        if "scheme" in given or (isinstance(model, str) and model != "classifier"):
            values = {k: getattr(ImageRecipe, k) for k in OF_THE_SCHEME if k not in given} | dict(values)
        return super().override(values, where)


@dataclass(frozen=True)
class TextRecipe(Recipe):
    """What decides the training of a language model; optimised by AdamW.

    The keys beyond those of `Recipe`:

    Args:
        data: python (documentation and sources that come with the interpreter), wikitext-2, wikitext-103, a text file, or a folder of text files.
        validation_data: another source to validate on; null: the data set's own part, else validation_share of the training text.
        validation_share: of the documents (of a single file, its end), where there is no validation_data.
        vocabulary: how many WordPiece tokens to train on the training text, or the path of a vocab.txt (BERT's form).
        examples: windows (packed, without padding) or sentences (a line each, cut and padded to the context, as in the paper).
        count_padding: trains on padding too, as the paper seems to; sentences only. Honest figures never count it.
        model: decoder (the paper's, `onebit.models.language_decoder`), or lstm or gru (`onebit.models.language_lstm`).
        size: tiny, mini, small or large.
        context, blocks, features, heads, head: of the network, where they differ from the size's; see there. A recurrent network has as many
            layers as blocks, no heads, and no dense layers before the last unless head names them.
        hidden: size of the state of a recurrent network; null: features.
        residual_scale, embedding_widening, head_widening, embedding_spread, pre_norm: of the network; see there.
        scheme: of a recurrent network; see `onebit.schemes`.
        hybrid: a recurrent network keeps its embedding and its last layer float.
        binary_hidden: the hidden state of a recurrent network is one bit in its recurrent product.
        epoch_steps: steps between two evaluations, which is what an epoch is here; null: one pass over the training text.
        checkpoint_activations: computes the inside of each block of a decoder again on the way back instead of keeping it: less memory, a
            third more work.
        validation_tokens: at most so many are evaluated after each epoch; null for all. The last evaluation is of all.
    """

    shardable: ClassVar[bool] = True
    decoupled_weight_decay: ClassVar[bool] = True

    data: str = "python"
    validation_data: str | None = None
    validation_share: float = 0.05
    vocabulary: int | str = 1024
    examples: Literal["windows", "sentences"] = "windows"
    count_padding: bool = False
    model: Literal["decoder", "lstm", "gru"] = "decoder"
    size: Literal["tiny", "mini", "small", "large"] = "tiny"
    context: int | None = None
    blocks: int | None = None
    features: int | None = None
    heads: int | None = None
    head: tuple[int, ...] | None = None
    hidden: int | None = None
    residual_scale: float = 1.0
    embedding_widening: int = 1
    head_widening: int = 1
    embedding_spread: float = 1.0
    pre_norm: bool = False
    scheme: str = "BinaryNormalized"
    hybrid: bool = False
    binary_hidden: bool = False
    epoch_steps: int | None = None
    checkpoint_activations: bool = False
    validation_tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "context", "blocks", "features", "heads", "head", "embedding_widening", "head_widening")
        self._at_least(1, "epoch_steps", "validation_tokens", "hidden")
        self._above_zero("residual_scale", "embedding_spread")
        _require(0 < self.validation_share < 1, "validation_share", self.validation_share, "a number above 0, below 1")
        if isinstance(self.vocabulary, int):
            _require(self.vocabulary >= 259, "vocabulary", self.vocabulary, "259 or more, or a vocab.txt")
        _require(
            not (self.count_padding and self.examples == "windows"), "count_padding", True, "examples=sentences with it"
        )
        _check_scheme(self.scheme)
        for key, usual in (
            ("scheme", "BinaryNormalized"),
            ("hidden", None),
            ("hybrid", False),
            ("binary_hidden", False),
        ):
            fits = self.model != "decoder" or getattr(self, key) == usual
            _require(fits, key, getattr(self, key), "it with model=lstm or model=gru")
        fits = self.model == "decoder" or not self.checkpoint_activations
        _require(fits, "checkpoint_activations", True, "it with model=decoder")

    @property
    def composed_scheme(self) -> Scheme:
        return self._scheme_with_keys(self.scheme)


# Of a recipe's file, in characters; those that come with the package have a hundredth of it.
LARGEST_RECIPE = 100_000
# Of what YAML may nest: the document, a list, and what is in it, with room to spare for a wrong one to be named by its key.
DEEPEST_YAML = 10
LONGEST_KEY = 100

KINDS: dict[str, type[Recipe]] = {"images": ImageRecipe, "text": TextRecipe}


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = resources.files("onebit") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(source: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        source: the name of one that comes with the package, or a YAML file.

    Raises:
        RecipeError: there is none, it is not YAML, or a key or value does not fit.
    """
    shipped = resources.files("onebit") / "recipes" / f"{source}.yaml"
    try:
        if str(source) in recipe_names():
            text = shipped.read_text("utf-8")
        else:
            with expand(source).open(encoding="utf-8") as file:
                text = file.read(LARGEST_RECIPE + 1)
    except IsADirectoryError:
        raise RecipeError(
            f"[{source}] is a folder: to train on own images use the recipe 'images' with --data {source}"
        ) from None
    except UnicodeDecodeError:
        raise RecipeError(f"[{source}] is not YAML: it is not UTF-8") from None
    except OSError:
        raise RecipeError(f"[{source}] no such recipe: use {', '.join(recipe_names())}, or a YAML file") from None
    if len(text) > LARGEST_RECIPE:
        raise RecipeError(f"[{source}] has more than {LARGEST_RECIPE:,} characters: that is not a recipe")
    try:
        tree = _read_yaml(text)
    except _YAML_ERRORS as error:
        raise RecipeError(f"[{source}] is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"[{source}] holds {type(tree).__name__}: needs keys with values, such as 'epochs: 10'")
    kind = tree.pop("kind", "images")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecipeError(f"[{source}] kind={shown(kind)}: use {' or '.join(KINDS)}")
    named = {str(key).replace("-", "_") for key in tree}
    if kind == "images" and "scheme" not in named and named & OF_THE_SCHEME.keys():
        tree["scheme"] = "BinaryNormalized"  # as in version 0.1.0, which had no other default
    return KINDS[kind]().override(tree, str(source))


def parse_text(text: str) -> Any:
    """A flag's text as a recipe's value: YAML's notation, and `32,64` for a list."""
    if "(" in text:  # a scheme with options
        return text
    if "," in text and not text.startswith("["):
        text = f"[{text}]"
    try:
        return _read_yaml(text)
    except _YAML_ERRORS:
        return text


class _PlainYaml(yaml.SafeLoader):
    """YAML without references: a few hundred bytes of them stand for thousands of millions of values."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "references (*name) are not allowed: write the value out", mark
            )
        self.depth += 1
        if self.depth > DEEPEST_YAML:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "lists or keys within each other, many levels deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


# Dates and numbers that are none, such as 2024-99-99, raise ValueError.
_YAML_ERRORS = (yaml.YAMLError, ValueError)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _PlainYaml)


def _key_types(recipe: type[Recipe]) -> dict[str, Any]:
    hints = get_type_hints(recipe)
    return {field.name: hints[field.name] for field in fields(recipe)}


def describe_type(hint: Any) -> str:
    """A type in a user's words."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe_type(a) for a in arguments)
    if get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in arguments)
    if get_origin(hint) is tuple:
        what = "texts" if arguments[0] is str else "integers"
        return f"a list of {what if arguments[-1] is Ellipsis else f'{len(arguments)} {what}'}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names[hint]


def _check_mapping(values: Any, where: str) -> None:
    if not isinstance(values, Mapping):
        raise RecipeError(
            f"[{where}] values of type {type(values).__name__}: give a dict of keys, such as {{'epochs': 10}}"
        )


def _fitting(key: str, value: Any, hint: Any) -> Any:
    """A key's value as the type `hint`; raises RecipeError."""
    try:
        return _coerce(value, hint)
    except OverflowError:
        raise RecipeError(f"{key}={shown(value)}: needs a smaller number") from None
    except (TypeError, ValueError):
        raise RecipeError(f"{key}={shown(value)}: needs {describe_type(hint)}") from None


def _coerce(value: Any, hint: Any) -> Any:
    """`value` as the type `hint`, with no guessing beyond a text that spells a number."""
    if isinstance(value, np.generic):
        value = value.item()
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        for argument in sorted(arguments, key=lambda a: a is str):  # a list is never meant as a text
            try:
                return _coerce(value, argument)
            except (TypeError, ValueError):
                continue
        raise ValueError
    if get_origin(hint) is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        # What version 0.1.0 and packed files call them; YAML reads an unquoted 01 as the number 1.
        for name, word in VALUES.items():
            if name in arguments and not isinstance(value, bool) and value in (word, 1 if word == "01" else word):
                return name
        raise ValueError
    if get_origin(hint) is tuple:
        if isinstance(value, arguments[0]) and not isinstance(value, bool):
            value = [value] * (1 if arguments[-1] is Ellipsis else len(arguments))
        if not isinstance(value, (list, tuple)) or (arguments[-1] is not Ellipsis and len(value) != len(arguments)):
            raise TypeError
        return tuple(_coerce(v, arguments[0]) for v in value)
    if hint is type(None):
        if value is None or value == "none":
            return None
        raise ValueError
    if isinstance(value, int) and abs(value) >= 1 << 63:  # beyond what counts, sizes and seeds are kept in
        raise OverflowError
    if hint is float:
        # YAML 1.1 reads 1e-3 as a text.
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not math.isfinite(float(value)):
            raise ValueError
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError
    return value


def _check_scheme(text: str) -> None:
    try:
        parse_scheme(text)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _require(holds: bool, key: str, value: Any, allowed: str) -> None:
    if not holds:
        raise RecipeError(f"{key}={shown(value)}: use {allowed}")
