"""Places where a network may end early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

# The temperature and the threshold of a head that nobody has calibrated: logits as they are, and no early end.
_UNCALIBRATED = (1.0, 1.0)


class _Head(nn.Module):
    """What a head is divided by and ends at, for each number of planes that the network may run with.

    Attributes:
        in_use: the number of planes in use; `use_planes` changes it.
        calibrations: the temperature and the threshold for each number of planes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_use = 1
        self.calibrations: dict[int, tuple[float, float]] = {}

    @property
    def temperature(self) -> float:
        """What the logits are divided by, so that their softmax is as sure as it is right; 1 until it is fitted."""
        return self.calibrations.get(self.in_use, _UNCALIBRATED)[0]

    @property
    def threshold(self) -> float:
        """The probability of an answer above which the network ends; 1 (never) until it is calibrated."""
        return self.calibrations.get(self.in_use, _UNCALIBRATED)[1]

    def adjust(self, temperature: float = 1.0, threshold: float = 1.0) -> None:
        """Set both for the number of planes in use. Raises ValueError if one is not a finite number above 0."""
        if not all(0 < value < math.inf for value in (temperature, threshold)):
            raise ValueError(f"[adjust] temperature={temperature}, threshold={threshold}: use numbers above 0")
        self.calibrations[self.in_use] = (temperature, threshold)

    def divided(self, logits: Tensor) -> Tensor:
        return logits if self.training or self.temperature == 1 else logits / self.temperature


class Exit(_Head):
    """A place where a packed network ends early for an input whose answer is probable enough.

    In PyTorch it gives its logits divided by its temperature, and nothing ends. `onebit.pack` records it as the op `exit`.

    Shape:
        (batch, classes); the output has the input's.
    """

    def forward(self, logits: Tensor) -> Tensor:
        return self.divided(logits)


class AfterExits(_Head):
    """The end of a network with exits: the logits of its last head in use, those of all its heads in training.

    Attributes:
        all_heads: whether it gives those of all heads in use too.

    Shape:
        Logits of each exit and of the network's end, (batch, classes) each, to the last of them, or to all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.all_heads = False

    def forward(self, *logits: Tensor) -> Tensor | tuple[Tensor, ...]:
        last = self.divided(logits[-1])
        return (*logits[:-1], last) if self.training or self.all_heads else last


def heads_of(model: nn.Module) -> list[_Head]:
    """The exits of a network in its order, and its end."""
    exits: list[_Head] = [m for m in model.modules() if isinstance(m, Exit)]
    return exits + [m for m in model.modules() if isinstance(m, AfterExits)]


def set_calibration(model: nn.Module, values: Mapping[str, Any]) -> None:
    """Set temperatures and thresholds of all heads.

    Args:
        values: for each number of planes, as a text: ``{"temperatures": [...], "thresholds": [...]}``, a number for each head.

    Raises:
        ValueError: they are not those of this network.
    """
    heads = heads_of(model)
    try:
        for planes, both in values.items():
            pairs = list(zip(both["temperatures"], both["thresholds"], strict=True))
            for head, (temperature, threshold) in zip(heads, pairs, strict=True):
                if not all(0 < float(value) < math.inf for value in (temperature, threshold)):
                    raise ValueError("not above 0")
                head.calibrations[int(planes)] = (float(temperature), float(threshold))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"[set_calibration] needs a temperature and a threshold for each of {len(heads)} heads"
        ) from None
