"""Labelled images in memory, and their seeded splits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one size.

    Args:
        pixels: uint8 (n, height, width, channels).
        labels: int64 (n,), indices into `classes`.
        classes: the names of the classes.
        notes: what a user should know about them, one sentence each.

    Raises:
        DataError: the parts do not fit together.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8 or len(self.pixels) != len(self.labels):
            raise DataError(f"[ImageSet] {self.pixels.shape} pixels and {self.labels.shape} labels do not fit together")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> ImageSet:
        """The images at `indices`, in their order."""
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])


@dataclass(frozen=True)
class ImageSplits:
    """Images for training, for choosing the best epoch (validation), and for reporting (test).

    Args:
        train, validation, test: disjoint sets with the same classes. Validation and test may be the same set.
        source: where the images came from, for messages and the run's record.
        notes: what a user should know about them, one sentence each.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    source: str
    notes: tuple[str, ...] = ()


def split_images(images: ImageSet, share: float, seed: int, where: str) -> tuple[ImageSet, ImageSet]:
    """Divide a set at random into two, with the same proportion of every class. The same `seed` always gives the same parts.

    Args:
        images: the whole set.
        share: the share of each class in the second part, above 0 and below 1. Both parts keep at least one image of each class.
        seed: the random seed.
        where: the place that error messages name.

    Returns:
        The rest and the share, each in the order of the whole set.

    Raises:
        DataError: a class has fewer than two images.
    """
    random = np.random.default_rng(seed)
    second = []
    for label, name in enumerate(images.classes):
        members = np.flatnonzero(images.labels == label)
        if len(members) < 2:
            raise DataError(
                f"[{where}] class {name!r} has {len(members)} image: at least 2 are needed, one to train on and one to validate on"
            )
        count = min(max(1, round(share * len(members))), len(members) - 1)
        second.append(random.permutation(members)[:count])
    chosen = np.zeros(len(images), bool)
    chosen[np.concatenate(second)] = True
    return images.take(np.flatnonzero(~chosen)), images.take(np.flatnonzero(chosen))


def limit_images(images: ImageSet, count: int | None, seed: int) -> ImageSet:
    """At most `count` images, equally many of each class if possible, chosen at random by `seed`."""
    if count is None or count >= len(images):
        return images
    random = np.random.default_rng(seed)
    order = random.permutation(len(images))
    # Rank each image within its class in the shuffled order. The lowest ranks of all classes come first.
    labels = images.labels[order]
    ranks = np.empty(len(order), np.int64)
    for label in range(len(images.classes)):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return images.take(np.sort(order[np.argsort(ranks, kind="stable")[:count]]))
