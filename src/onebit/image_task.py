"""The task of an image classifier. Classifying arrays does not need Pillow, so this module does not import it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

from onebit.errors import DataError, FormatError, shown
from onebit.strict_json import excerpt
from onebit.task import check_task, image_fault


@dataclass(frozen=True)
class ImageTask:
    """The task of an image classifier. A run folder and a packed file contain it.

    Args:
        labels: one name per class, in the order of the logits.
        image_size: (height, width) of the network's input, in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean, std: one number per channel. The network sees ``(pixel / 255 - mean) / std``.
        temperature: what the network's logits are divided by so that their softmax is as sure as it is right; see `onebit.confidence`. A run has it
            from its training. Packing makes a step of it, so the task of a packed file has 1.

    Raises:
        DataError: a field does not fit the others.
    """

    labels: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    # Networks that differ in their confidence alone have the same task.
    temperature: float = field(default=1.0, compare=False)

    def __post_init__(self) -> None:
        # An empty mean or std stands for the scaling of 0..255 to -1..1.
        object.__setattr__(self, "mean", tuple(float(m) for m in self.mean) or (0.5,) * self.channels)
        object.__setattr__(self, "std", tuple(float(s) for s in self.std) or (0.5,) * self.channels)
        fault = image_fault(self.to_json())
        if fault:
            raise DataError(f"[ImageTask] {fault}")
        value = self.temperature
        if isinstance(value, bool) or not isinstance(value, Real) or not 1e-30 <= value <= 1e30:
            raise DataError(f"[ImageTask] temperature={shown(value)}: needs a number above 0, from 1e-30 to 1e30")
        object.__setattr__(self, "temperature", float(value))  # also one of NumPy

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values, with its kind and without its temperature."""
        values = {"kind": "image-classification", **asdict(self)}
        del values["temperature"]
        return values

    @classmethod
    def from_json(cls, values: Any) -> ImageTask:
        """The task from the values of `to_json`. Raises FormatError if they do not describe one."""
        check_task(values)
        if values["kind"] != "image-classification":
            raise FormatError(f"[task] kind {excerpt(values['kind'])}: only 'image-classification' is known here")
        height, width = values["image_size"]
        return cls(
            tuple(values["labels"]), (height, width), values["channels"], tuple(values["mean"]), tuple(values["std"])
        )
