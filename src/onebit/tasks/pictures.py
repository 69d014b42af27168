"""The tasks of networks that find objects in pictures: boxes (detection), and a class for each pixel (segmentation)."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from onebit.strict_json import excerpt
from onebit.task_fields import MAX_SIDE, is_above, is_list, labels_fault
from onebit.tasks.array_task import ArrayTask, Shape

# Pixels of a cell of a detector's grid, in both axes.
STRIDE = 4
# Of a cell: the logarithms of a box's width and height, and where its centre is in the cell, across and down.
BOX_VALUES = 4
# A mask holds a class in a byte, of which one value says that a pixel does not count.
MOST_CLASSES = 255


@dataclass(frozen=True)
class PictureTask(ArrayTask):
    """What detection and segmentation share: labels, and how a picture becomes the network's input.

    Raises:
        DataError: a field does not fit the others.
    """

    labels: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    # Sides of an input are multiples of this.
    multiple: ClassVar[int] = 1
    most_labels: ClassVar[int] = 1 << 20

    def __post_init__(self) -> None:
        # An empty mean or std stands for the scaling of 0..255 to -1..1.
        object.__setattr__(self, "mean", tuple(float(m) for m in self.mean) or (0.5,) * self.channels)
        object.__setattr__(self, "std", tuple(float(s) for s in self.std) or (0.5,) * self.channels)
        super().__post_init__()

    @property
    def input_shape(self) -> Shape:
        return (*self.image_size, self.channels)

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.mean, self.std

    @property
    @abstractmethod
    def output_shape(self) -> Shape:
        """What a program of this task gives for a picture."""

    def output_fault(self, shape: Shape) -> str | None:
        if tuple(shape) == self.output_shape:
            return None
        return f"names {len(self.labels)} labels and needs outputs of {list(self.output_shape)}, but they are {list(shape)}"

    @classmethod
    def fault(cls, values: dict[str, Any]) -> str | None:
        labels, size, channels = values.get("labels"), values.get("image_size"), values.get("channels")
        if not is_list(labels):
            return "lacks its labels: needs a list of texts"
        fault = labels_fault(labels)
        if fault is not None:
            return fault
        if len(labels) > cls.most_labels:
            return f"has {len(labels)} labels: needs at most {cls.most_labels}"
        if not is_list(size) or len(size) != 2 or any(type(n) is not int or not 1 <= n <= MAX_SIDE for n in size):
            return f"image_size={excerpt(size)}: needs (height, width), two integers from 1 to {MAX_SIDE}"
        if any(side % cls.multiple for side in size):
            return f"image_size={excerpt(size)}: needs multiples of {cls.multiple}"
        if type(channels) is not int or channels not in (1, 3):
            return f"channels={excerpt(channels)}: use 1 (grey) or 3 (RGB)"
        for name, least in (("mean", -math.inf), ("std", 0.0)):
            given = values.get(name)
            if not is_list(given) or len(given) != channels or not all(is_above(v, least) for v in given):
                needed = "finite numbers" if name == "mean" else "finite numbers above 0"
                return f"{name}={excerpt(given)}: needs {needed}, one for each of {channels} channels"
        return None


@dataclass(frozen=True)
class DetectionTask(PictureTask):
    """The task of a detector. A run folder and a packed file contain it.

    The network gives ``(height / 4, width / 4, classes + 4)``: for each cell of 4x4 pixels a logit for each class, the logarithms of a box's
    width and height, and the place of its centre less the cell's number, across and down. All lengths are in cells.

    Args:
        labels: the names of the classes of objects.
        image_size: (height, width) of the network's input, in pixels, multiples of 4. A picture is scaled to it as a whole.
        channels: 1 (grey) or 3 (RGB).
        mean, std: one number per channel. The network sees ``(pixel / 255 - mean) / std``.

    Raises:
        DataError: a field does not fit the others.

    Example:
        >>> onebit.DetectionTask(("cat", "dog"), (64, 96)).output_shape
        (16, 24, 6)
    """

    kind: ClassVar[str] = "detection"
    multiple: ClassVar[int] = STRIDE

    @property
    def output_shape(self) -> Shape:
        """(rows, columns, values of a cell)."""
        height, width = self.image_size
        return height // STRIDE, width // STRIDE, len(self.labels) + BOX_VALUES


@dataclass(frozen=True)
class SegmentationTask(PictureTask):
    """The task of a network that names the class of each pixel. A run folder and a packed file contain it.

    The network gives ``(height, width, classes)``: logits for each pixel.

    Args:
        labels: the names of the classes, in the order of a mask's numbers. The first usually is the background.
        image_size: (height, width) of the network's input, in pixels. A picture is scaled to it as a whole.
        channels: 1 (grey) or 3 (RGB).
        mean, std: one number per channel. The network sees ``(pixel / 255 - mean) / std``.

    Raises:
        DataError: a field does not fit the others.

    Example:
        >>> onebit.SegmentationTask(("background", "road"), (64, 96)).output_shape
        (64, 96, 2)
    """

    kind: ClassVar[str] = "segmentation"
    most_labels: ClassVar[int] = MOST_CLASSES

    @property
    def output_shape(self) -> Shape:
        """(height, width, classes)."""
        return (*self.image_size, len(self.labels))
