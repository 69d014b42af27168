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
        "a data set (digits, cifar10, food101, mnist, fashion-mnist), or a folder of images or IDX files",
        short="data",
    )
    image_size: tuple[int, int] | None = key(
        None, "height and width in pixels that images are scaled to; null: their own", least=1
    )
    channels: Literal[1, 3] = key(3, "1: grey; 3: RGB")
    validation_share: float = key(
        0.0,
        "share of the training images that chooses the best epoch; 0: the last epoch counts",
        least=0,
        below=1,
    )
    train_limit: int | None = key(None, "train on at most so many images, as many of each class; null: on all", least=1)
    augment: Literal["none", "flip", "crop-flip"] = key(
        "none", "flip: mirror at random, left to right; crop-flip: shift by up to an eighth of the side too"
    )
    mixup: float = key(
        0.0,
        "mix each training image and its label with another of its batch, in shares drawn from Beta(mixup, mixup); 0: do not mix",
        least=0,
    )
    label_smoothing: float = key(
        0.0, "share of each training label that all classes have alike; 0: the label is certain", least=0, below=1
    )


@dataclass(frozen=True)
class ImageModel(Model):
    """The network, and its sizes."""

    name: str = key(
        "classifier",
        "classifier: the paper's network; of the literature mlp, vgg, alexnet, mobile-net, and resnet with a depth (resnet18 and resnet34 for large "
        "images, resnet8, resnet20, ... for 32x32); lstm and gru read an image line by line",
        short="model",
    )
    widths: str | tuple[int, ...] = key(
        "counted",
        "channels of each block, of classifier and vgg; counted or listed: as the paper counts or lists its own",
        least=1,
    )
    hidden: tuple[int, ...] | None = key(
        None,
        "widths of the dense layers before the last, of classifier, vgg and mlp; sizes of the layers of lstm and gru, all the same; "
        "null: the network's own",
        least=1,
    )
    kernel_size: int = key(3, "side of the kernels of classifier", least=1)
    exits: tuple[int, ...] | None = key(
        None,
        "blocks of classifier, counted from 1, after which there is a head of its own, at which a packed network may end; null: none",
        least=1,
    )
    width: float = key(1.0, "multiplies the channels of alexnet, mobile-net and the resnets", above=0)
    small_images: bool = key(
        False, "resnet18 and resnet34 begin with a 3x3 convolution and do not pool, for images of about 32x32"
    )
    float_shortcuts: bool = key(
        True, "the 1x1 convolutions in shortcuts of a binary resnet stay float; false: they are of the scheme"
    )
    batch_norm: bool = key(False, "the float twin of classifier has a batch normalisation after each layer")
    hybrid: bool = key(True, "the first and the last layer of the literature's networks stay float")
    pixels: Literal["levels", "signs"] = key(
        "levels",
        "what the first layer of an mlp that is not hybrid takes: levels of 8 bits, or signs: whether a pixel is above the mean",
    )
    calibrate: bool = key(
        True,
        "fits a temperature to the validation images at the end: one float that the logits are divided by, so that probabilities mean what "
        "they say; needs a validation_share",
    )

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
        "the method that makes bits of latents; classifier takes Bipolar or BinaryNormalized (the paper's), other networks any of `onebit.schemes`. "
        "Where no scheme is named it is Bipolar, or BinaryNormalized if another key of this section is given",
        short="scheme",
    )
    normalize: Literal["scheme", "channel", "example", "batch"] | None = key(
        "scheme", "what the sums of a layer are normalised over; null: nothing; scheme: as the scheme has it"
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
            fits = self.scheme.name in ("Bipolar", "BinaryNormalized", "Nested")
            allowed = "Bipolar, BinaryNormalized or Nested with model=classifier, or another model"
            require(fits, "scheme", self.scheme.name, allowed)
        fits = self.model.exits is None or (self.model.name == "classifier" and self.model.binary)
        require(fits, "exits", self.model.exits, "them with model=classifier and binary=true")
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
