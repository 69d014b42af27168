"""The figures of networks that predict a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class NumberMetrics:
    """Predictions and the right numbers, and the figures that follow from them.

    Args:
        in_units: turns outputs (n, 1) into numbers (n,).
    """

    def __init__(self, in_units: Callable[[Any], Any]) -> None:
        self._in_units = in_units
        self._predicted: list[NDArray[np.float64]] = []
        self._right: list[NDArray[np.float64]] = []

    def add(self, outputs: NDArray[np.float32], answers: Any, groups: Sequence[str] | None = None) -> None:
        """Add outputs (n, 1) and the right numbers (n,)."""
        self._predicted.append(self._in_units(outputs.astype(np.float64)))
        self._right.append(np.asarray(answers, np.float64))

    def figures(self) -> dict[str, Any]:
        """The mean absolute error, the root of the mean square error, and R^2, the share of the variance that is explained (1: all)."""
        predicted, right = np.concatenate(self._predicted), np.concatenate(self._right)
        error = predicted - right
        variance = float(right.var())
        return {
            "mean_absolute_error": float(np.abs(error).mean()),
            "root_mean_square_error": math.sqrt(float(np.square(error).mean())),
            "r2": 1 - float(np.square(error).mean()) / variance if variance else math.nan,
        }
