"""Pictures with boxes or masks in memory, and their parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError
from onebit.scenes.average_precision import Objects
from onebit.scenes.pictures import scaled, scaled_mask


@dataclass(frozen=True)
class BoxSet:
    """Pictures of one size with the objects in them.

    Args:
        pixels: uint8 (n, height, width, channels).
        objects: of each picture, in its pixels.
        classes: the names of the classes.
        notes: what a user should know about them, one sentence each.
    """

    pixels: NDArray[np.uint8]
    objects: tuple[Objects, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: NDArray[np.int64]) -> Self:
        """The pictures at `indices`, in their order."""
        return replace(self, pixels=self.pixels[indices], objects=tuple(self.objects[i] for i in indices))

    def at_size(self, size: tuple[int, int], channels: int) -> Self:
        """The pictures scaled as a whole, and their boxes with them."""
        height, width = self.pixels.shape[1:3]
        factor = np.array([size[1] / width, size[0] / height] * 2, np.float32)
        objects = tuple(replace(one, boxes=one.boxes * factor) for one in self.objects)
        return replace(self, pixels=_scaled(self.pixels, size, channels), objects=objects)

    def with_classes(self, classes: Sequence[str], where: str) -> Self:
        """The set with class numbers of a network, matched by name. Raises DataError if the network does not know one that occurs."""
        place = {name: index for index, name in enumerate(classes)}
        unknown = sorted(set(self.classes) - set(place))
        if unknown:
            raise DataError(
                f"[{where}] has classes that the network does not know: {', '.join(unknown)}; it knows {', '.join(classes)}"
            )
        table = np.array([place[name] for name in self.classes], np.int64)
        objects = tuple(replace(one, labels=table[one.labels] if len(one) else one.labels) for one in self.objects)
        return replace(self, objects=objects, classes=tuple(classes))


@dataclass(frozen=True)
class MaskSet:
    """Pictures of one size with the class of each of their pixels.

    Args:
        pixels: uint8 (n, height, width, channels).
        masks: uint8 (n, height, width), class numbers; 255 does not count.
        classes: the names of the classes, in the order of the numbers.
        notes: what a user should know about them, one sentence each.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: NDArray[np.int64]) -> Self:
        """The pictures at `indices`, in their order."""
        return replace(self, pixels=self.pixels[indices], masks=self.masks[indices])

    def at_size(self, size: tuple[int, int], channels: int) -> Self:
        """The pictures and their masks scaled as a whole."""
        masks = np.stack([scaled_mask(mask, size) for mask in self.masks])
        return replace(self, pixels=_scaled(self.pixels, size, channels), masks=masks)

    def with_classes(self, classes: Sequence[str], where: str) -> Self:
        """The set for a network of these classes. Raises DataError if it has others."""
        if tuple(self.classes) != tuple(classes):
            raise DataError(
                f"[{where}] has the classes {', '.join(self.classes)}, and the network "
                f"{', '.join(classes)}: masks are numbers, which must mean the same"
            )
        return self


SceneSet = BoxSet | MaskSet
AnySet = TypeVar("AnySet", BoxSet, MaskSet)


def split_scenes(scenes: AnySet, share: float, seed: int, where: str) -> tuple[AnySet, AnySet]:
    """Divide a set at random: the rest and the share, at least a picture each. The same `seed` always gives the same parts.

    Raises:
        DataError: there are fewer than two pictures.
    """
    if len(scenes) < 2:
        raise DataError(
            f"[{where}] has {len(scenes)} picture: at least 2 are needed, one to train on and one to measure on"
        )
    order = np.random.default_rng(seed).permutation(len(scenes))
    count = min(max(1, round(share * len(scenes))), len(scenes) - 1)
    return scenes.take(np.sort(order[count:])), scenes.take(np.sort(order[:count]))


def _scaled(pixels: NDArray[np.uint8], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    if channels == 3 and pixels.shape[3] == 1:
        pixels = np.repeat(pixels, 3, 3)
    return np.stack([scaled(one, size) for one in pixels])
