"""Packed networks that find objects in pictures: boxes, and the class of each pixel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.printable import printable
from onebit.runtime.session import ArraySession
from onebit.scenes.boxes import Box, decode, named
from onebit.tasks.pictures import DetectionTask, SegmentationTask

# The least score of a box by default.
THRESHOLD = 0.3


@dataclass(frozen=True)
class FoundBoxes:
    """The objects of a picture. `str` counts them, and has a line for each.

    Args:
        boxes: the surest first.
    """

    boxes: tuple[Box, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"boxes": [box._asdict() for box in self.boxes]}

    def __str__(self) -> str:
        counts = Counter(box.label for box in self.boxes)
        lines = [", ".join(f"{count} {printable(label)}" for label, count in sorted(counts.items())) or "nothing found"]
        for box in self.boxes:
            sides = ", ".join(f"{name} {getattr(box, name):.1f}" for name in ("left", "top", "right", "bottom"))
            lines.append(f"  {printable(box.label)} {100 * box.score:.1f} %: {sides}")
        return "\n".join(lines)


@dataclass(frozen=True)
class FoundClasses:
    """The classes of a picture's pixels. `str` is a line.

    Args:
        shares: each class that occurs with its share of the pixels, the largest first.
    """

    shares: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"classes": [{"label": label, "share": share} for label, share in self.shares]}

    def __str__(self) -> str:
        return ", ".join(f"{printable(label)} {100 * share:.1f} %" for label, share in self.shares)


class DetectionSession(ArraySession):
    """A packed detector in the engine. `onebit.load` returns it. Call it with pixels for its grid, or `detect` for boxes.

    Example:
        >>> session = onebit.load("detection.onebit")
        >>> [box.label for box in session.detect("photo.jpg")]
        [...]
    """

    task: DetectionTask

    def detect(self, picture: str | Path | NDArray[np.uint8], threshold: float = THRESHOLD) -> list[Box]:
        """The objects in a picture of any size.

        Args:
            picture: a path, or uint8 pixels (height, width[, channels]).
            threshold: the least score of a box, 0 to 1.

        Returns:
            The boxes in pixels of the picture, the surest first. Of boxes of one class that overlap by more than half, the surest stays.

        Raises:
            DataError: the picture does not decode.
            OnebitError: the threshold is not from 0 to 1.
        """
        # Only image files need Pillow.
        from onebit.scenes.pictures import load_whole

        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise OnebitError(f"[Session.detect] threshold={threshold!r}: use 0 to 1")
        pixels, (height, width) = load_whole(picture, self.task.image_size, self.task.channels)
        return named(decode(self(pixels[None])[0], float(threshold), width, height), self.task.labels)

    def answer(self, source: str | Path, top: int = 5) -> FoundBoxes:
        return FoundBoxes(tuple(self.detect(source)))


class SegmentationSession(ArraySession):
    """A packed network for the class of each pixel in the engine. `onebit.load` returns it. Call it with pixels for logits, or `segment` for a mask.

    Example:
        >>> session = onebit.load("segmentation.onebit")
        >>> session.segment("photo.jpg").shape
        (20, 20)
    """

    task: SegmentationTask

    def segment(self, picture: str | Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The class of each pixel of a picture of any size.

        Args:
            picture: a path, or uint8 pixels (height, width[, channels]).

        Returns:
            uint8 (height, width) of the picture: the class of the nearest pixel that the network saw, a number in the order of the task's labels.

        Raises:
            DataError: the picture does not decode.
        """
        from onebit.scenes.pictures import load_whole, scaled_mask

        pixels, size = load_whole(picture, self.task.image_size, self.task.channels)
        return scaled_mask(self(pixels[None])[0].argmax(-1).astype(np.uint8), size)

    def answer(self, source: str | Path, top: int = 5) -> FoundClasses:
        return self.shares_of(self.segment(source))

    def shares_of(self, mask: NDArray[np.uint8]) -> FoundClasses:
        """The share of each class of a mask's pixels."""
        shares = np.bincount(mask.ravel(), minlength=len(self.task.labels)) / mask.size
        order = np.argsort(-shares, kind="stable")
        return FoundClasses(tuple((self.task.labels[i], float(shares[i])) for i in order if shares[i]))
