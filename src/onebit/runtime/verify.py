"""Compare two computations of the same outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The largest allowed relative difference of logits between the float32 engine and PyTorch.
FLOAT32_TOLERANCE = 1e-4
# If a network quantises its inputs, a value almost halfway between two levels may round to the other one because of a float's last bit.
# All that follows then differs by more. This share of the outputs may be beyond the tolerance for that reason.
ROUNDED_SHARE = 0.02


@dataclass(frozen=True)
class Difference:
    """The difference between outputs (n, classes) and a baseline.

    Args:
        relative: the largest |a - b|, divided by the largest |b|.
        changed: how many of the n have a different answer (the largest output).
        compared: n.
        beyond: how many of the n differ by more than `FLOAT32_TOLERANCE`.
    """

    relative: float
    changed: int
    compared: int
    beyond: int = 0

    @property
    def changed_share(self) -> float:
        """The share of the answers that differ."""
        return self.changed / self.compared if self.compared else 0.0


def compare(outputs: NDArray[Any], baseline: NDArray[Any]) -> Difference:
    """Compare outputs (n, classes), or maps (pictures, rows, columns, classes) place by place, with a baseline of the same shape.

    A NaN on only one side counts as an infinite difference.
    """
    if outputs.shape != baseline.shape:
        raise ValueError(f"[compare] shapes {outputs.shape} and {baseline.shape}: needs equal ones")
    if not len(outputs):
        return Difference(0.0, 0, 0)
    outputs, baseline = (array.reshape(-1, array.shape[-1]) for array in (outputs, baseline))
    apart = np.abs(outputs.astype(np.float64) - baseline)
    apart[np.isnan(outputs) & np.isnan(baseline)] = 0
    scale = float(np.nanmax(np.abs(baseline))) if not np.isnan(baseline).all() else 1.0
    apart = np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(-1) / (scale or 1.0)  # (n)
    changed = int((outputs.argmax(-1) != baseline.argmax(-1)).sum())
    return Difference(float(apart.max()), changed, len(outputs), int((apart > FLOAT32_TOLERANCE).sum()))
