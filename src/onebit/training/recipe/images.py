"""Recipes for classifiers of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from onebit.training.recipe.recipe import Recipe
from onebit.training.recipe.section import key
from onebit.training.recipe.shared import Data, Execution, Model, Optimizer, Schedule, SchemeParts, Teaching
from onebit.training.recipe.values import require

CELLS = ("lstm", "gru")
MODELS = ("classifier", "mlp", "vgg", "alexnet", "mobile-net", *CELLS)


@dataclass(frozen=True)
class ImageData(Data):
    """The images, and how they are divided and changed."""

    source: str = key(
        "digits",
        "digits, cifar10, food101, mnist, fashion-mnist, or a path to a folder of images or IDX files",
        short="data",
    )
    image_size: tuple[int, int] | None = key(None, "height and width in pixels; null keeps the data's own", least=1)
    channels: Literal[1, 3] = key(3, "1 (grey) or 3 (RGB)")
    validation_share: float = key(
        0.0,
        "of the training images, to choose the best epoch by; 0: the last epoch counts, test images are only watched",
        least=0,
        below=1,
    )
    train_limit: int | None = key(
        None, "at most so many training images, balanced over the classes; null for all", least=1
    )
    augment: Literal["none", "flip", "crop-flip"] = key(
        "none", "none, flip (left to right), or crop-flip (also shifted by up to an eighth of the side)"
    )


@dataclass(frozen=True)
class ImageModel(Model):
    """The network, and its sizes."""

    name: str = key(
        "classifier",
        "classifier (the paper's, `onebit.models.conv_classifier`); of the literature mlp, vgg, alexnet, mobile-net, resnet8, resnet20, "
        "resnet110, ... (32x32), resnet18, resnet34 (large images); or lstm, gru, which read an image line by line",
        short="model",
    )
    widths: str | tuple[int, ...] = key(
        "counted",
        "of the paper's network and of vgg, channels of each block; counted or listed: as the paper counts or lists them",
        least=1,
    )
    hidden: tuple[int, ...] | None = key(
        None,
        "of the paper's network, vgg and mlp, dense layers before the last; of lstm and gru as many layers as numbers, all of one size; "
        "null: as the network has it",
        least=1,
    )
    kernel_size: int = key(3, "of the paper's network", least=1)
    width: float = key(1.0, "multiplies the widths of alexnet, mobile-net and the resnets", above=0)
    batch_norm: bool = key(False, "of the paper's float twin: a batch normalisation after each layer")
    hybrid: bool = key(True, "the literature's networks keep their first and last layer float")

    def check(self) -> None:
        depth = self.name.removeprefix("resnet")
        known = self.name in MODELS or (depth != self.name and depth.isdecimal())
        require(known, "model", self.name, f"{', '.join(MODELS)}, or resnet and a depth")
        fits = self.name not in CELLS or self.hidden is None or len(set(self.hidden)) == 1
        require(fits, "hidden", self.hidden, "layers of one size with a recurrent network")
        known = not isinstance(self.widths, str) or self.widths in ("counted", "listed")
        require(known, "widths", self.widths, "counted, listed or a list of channels")
        fits = not (self.binary and self.batch_norm)
        require(fits, "batch_norm", True, "binary=false with it, or normalize=batch instead")


@dataclass(frozen=True)
class ImageScheme(SchemeParts):
    """The scheme of the binary layers, and parts of it that the recipe changes; any other option of the scheme is a key too."""

    name: str = key(
        "",
        "Bipolar or BinaryNormalized (the paper's); the literature's networks take any of `onebit.schemes`. A recipe that names none "
        "means Bipolar, or BinaryNormalized where it says values, normalize or the like",
        short="scheme",
    )
    normalize: Literal["scheme", "channel", "example", "batch"] | None = key(
        "scheme", "what the sums of a layer are normalised over; null: nothing; scheme: as that has it"
    )

    def __post_init__(self) -> None:
        if self.name == "":
            parts = (self.values, self.threshold, self.latent_spread, self.latent_clip)
            given = any(part is not None for part in parts) or self.normalize != "scheme"
            object.__setattr__(self, "name", "BinaryNormalized" if given else "Bipolar")
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        if self.normalize == "scheme":
            return {name: value for name, value in values.items() if name != "normalize"}
        return values | {"normalize": self.normalize}

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | ({} if self.normalize == "scheme" else {"normalize": self.normalize})


@dataclass(frozen=True, init=False)
class ImageRecipe(Recipe):
    """What decides the training of a classifier of images; optimised by Adam."""

    kind: ClassVar[str] = "images"

    data: ImageData
    model: ImageModel
    scheme: ImageScheme
    optimizer: Optimizer
    schedule: Schedule
    teacher: Teaching
    run: Execution

    def _check(self) -> None:
        super()._check()
        if self.model.name == "classifier":
            fits = self.scheme.name in ("Bipolar", "BinaryNormalized")
            require(
                fits, "scheme", self.scheme.name, "Bipolar or BinaryNormalized with model=classifier, or another model"
            )
        usual = self.scheme.name == "Bipolar" and self.scheme.normalize == "scheme"
        if self.model.name in CELLS and usual:  # the lines of an image are steps, which are not to be seen ahead
            object.__setattr__(self, "scheme", replace(self.scheme, normalize="channel"))

    def _dropped(self, section: str, changes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """What a recipe says of its scheme stands for that scheme, and for the paper's network, only."""
        other = changes.get("model", {}).get("name", "classifier") != "classifier"
        named = "name" in changes.get("scheme", {})
        if section != "scheme" or not (other or named):
            return {}
        parts: dict[str, Any] = dict.fromkeys(("values", "threshold", "latent_spread", "latent_clip"))
        return {**parts, "normalize": "scheme", **({"options": {}} if named else {})}
