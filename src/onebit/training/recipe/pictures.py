"""Recipes for networks that find objects in pictures: boxes, and the class of each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from onebit.training.recipe.images import ImageScheme
from onebit.training.recipe.recipe import Recipe
from onebit.training.recipe.section import key
from onebit.training.recipe.shared import Data, Execution, Model, Optimizer, Schedule, Teaching
from onebit.training.recipe.values import require


@dataclass(frozen=True)
class PictureData(Data):
    """The pictures, and how they are divided and changed."""

    source: str = key(
        "digit-scenes",
        "digit-scenes, which are made on the spot, or a folder of pictures with boxes or masks",
        short="data",
    )
    image_size: tuple[int, int] = key((64, 64), "height and width in pixels that whole pictures are scaled to", least=8)
    channels: Literal[1, 3] = key(3, "1: grey; 3: RGB")
    validation_share: float = key(
        0.0,
        "share of the training pictures that chooses the best epoch, where the data have no part for it; 0: the last epoch counts",
        least=0,
        below=1,
    )
    augment: Literal["none", "flip", "crop-flip"] = key(
        "none",
        "flip: mirror at random, left to right; crop-flip: shift by up to an eighth of the side too. Boxes and masks move along",
    )


@dataclass(frozen=True)
class PictureModel(Model):
    """The network, and its sizes."""

    widths: tuple[int, ...] = key(
        (16, 32, 64, 128),
        "channels at each size of the picture, each half of the one before: from a half on for detection, from the whole on for segmentation",
        least=1,
    )
    hybrid: bool = key(True, "the first and the last layer stay float")

    def check(self) -> None:
        require(self.logit_scale is None, "logit_scale", self.logit_scale, "null: these networks end in a float layer")


@dataclass(frozen=True, init=False)
class _PictureRecipe(Recipe):
    data: PictureData
    model: PictureModel
    scheme: ImageScheme
    optimizer: Optimizer
    schedule: Schedule
    teacher: Teaching
    run: Execution

    # The network halves the picture so often before it comes back.
    halvings_less: ClassVar[int] = 0

    def _check(self) -> None:
        super()._check()
        step = 2 ** (len(self.model.widths) - self.halvings_less)
        fits = all(side % step == 0 for side in self.data.image_size)
        require(fits, "image_size", self.data.image_size, f"multiples of {step}, which so many widths need")


@dataclass(frozen=True, init=False)
class DetectionRecipe(_PictureRecipe):
    """What decides the training of a detector."""

    kind: ClassVar[str] = "detection"

    def _check(self) -> None:
        super()._check()
        require(len(self.model.widths) >= 2, "widths", self.model.widths, "two or more")
        require(self.teacher.run is None, "teacher", self.teacher.run, "null: a detector learns from boxes alone")


@dataclass(frozen=True, init=False)
class SegmentationRecipe(_PictureRecipe):
    """What decides the training of a network for the class of each pixel."""

    kind: ClassVar[str] = "segmentation"
    halvings_less: ClassVar[int] = 1
