"""The difference between two computations of the same outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Largest relative difference of logits that the float32 engine may show against PyTorch.
FLOAT32_TOLERANCE = 1e-4
# Where a network quantises inputs, a number half-way between two levels may be rounded to the other one because of a float's last bit, and later
# values then differ by more. This share of outputs may therefore be beyond the tolerance.
ROUNDED_SHARE = 0.02


@dataclass(frozen=True)
class Difference:
    """The difference of outputs (n, classes) to those of a baseline.

    Args:
        relative: the largest |a - b|, over the largest |b|.
        changed: for how many of the n the answer (the largest output) differs.
        compared: n.
        beyond: how many of the n are further apart than `FLOAT32_TOLERANCE`.
    """

    relative: float
    changed: int
    compared: int
    beyond: int = 0

    @property
    def changed_share(self) -> float:
        """Share of the answers that differ."""
        return self.changed / self.compared if self.compared else 0.0


def compare(outputs: NDArray[Any], baseline: NDArray[Any]) -> Difference:
    """Compare outputs (n, classes) with a baseline of the same shape; a NaN on one side only counts as infinitely far."""
    if outputs.shape != baseline.shape:
        raise ValueError(f"[compare] shapes {outputs.shape} and {baseline.shape}: needs equal ones")
    if not len(outputs):
        return Difference(0.0, 0, 0)
    apart = np.abs(outputs.astype(np.float64) - baseline)
    apart[np.isnan(outputs) & np.isnan(baseline)] = 0
    scale = float(np.nanmax(np.abs(baseline))) if not np.isnan(baseline).all() else 1.0
    apart = np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(-1) / (scale or 1.0)  # (n)
    changed = int((outputs.argmax(-1) != baseline.argmax(-1)).sum())
    return Difference(float(apart.max()), changed, len(outputs), int((apart > FLOAT32_TOLERANCE).sum()))
