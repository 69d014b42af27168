"""What an import finds in the tensors: counts, shares, ranges, and what looks wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.blocks import Decoded, Levels, Signs
from onebit.importing.kept import Kept, Placed
from onebit.importing.matrices import Matrix

# Trained ternary matrices have 30 to 52 % zeros, and about as many weights above 0 as below. What lies outside these bounds was read wrong, or is
# no trained matrix. Small ones may stray.
ZERO_SHARES = (0.02, 0.95)
SIGN_SHARES = (0.25, 0.75)
_LEAST_WEIGHTS = 1 << 12


@dataclass
class Figures:
    """Counts over weights: of one tensor, or of all of a kind.

    Args:
        kind: (our name without the block's number, how the file stores it, how it is kept).
    """

    kind: tuple[str, str, str]
    tensors: int = 0
    weights: int = 0
    zeros: int = 0
    positive: int = 0
    stored_bytes: int = 0
    kept_bytes: int = 0
    least_scale: float = math.inf
    most_scale: float = 0.0
    squares: float = 0.0
    error_squares: float = 0.0
    codes: set[int] = field(default_factory=set)

    def merge(self, other: Figures) -> None:
        """Add another's counts."""
        for name in (
            "tensors",
            "weights",
            "zeros",
            "positive",
            "stored_bytes",
            "kept_bytes",
            "squares",
            "error_squares",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.least_scale = min(self.least_scale, other.least_scale)
        self.most_scale = max(self.most_scale, other.most_scale)
        self.codes |= other.codes

    @property
    def zero_share(self) -> float:
        return self.zeros / max(self.weights, 1)

    @property
    def positive_share(self) -> float:
        """Of the weights that are not 0, those above it."""
        return self.positive / max(self.weights - self.zeros, 1)

    @property
    def error(self) -> float | None:
        """The root of the mean square of what rounding changed, over that of the weights; None where nothing was rounded."""
        return math.sqrt(self.error_squares / self.squares) if self.squares > 0 else None

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.kept_bytes / max(self.weights, 1)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        part, stored, kept = self.kind
        finite = math.isfinite(self.least_scale)
        return {
            **{"part": part, "stored": stored, "kept": kept, "tensors": self.tensors, "weights": self.weights},
            **{"bits_per_weight": self.bits_per_weight, "bytes": self.kept_bytes},
            **{"zero_share": self.zero_share, "positive_share": self.positive_share},
            **{"scales": [self.least_scale, self.most_scale] if finite else None, "error": self.error},
        }


def count(figures: Figures, matrix: Matrix, decoded: Decoded, placed: list[Placed]) -> None:
    """Add the rows of a piece to the figures of its tensor.

    Raises:
        ForeignModelError: a weight or a scale is not finite, or too large for its place.
    """
    if isinstance(decoded, Signs):
        weights = decoded.bits.size * 8
        figures.positive += int(np.unpackbits(decoded.bits).sum(dtype=np.int64))
        figures.codes |= {-1, 1} if 0 < figures.positive < weights + figures.weights else set()
    else:
        values = decoded.codes if isinstance(decoded, Levels) else decoded
        weights = values.size
        figures.zeros += weights - int(np.count_nonzero(values))
        figures.positive += int(np.count_nonzero(values > 0))
        if isinstance(decoded, Levels):
            figures.codes |= set(np.unique(decoded.codes).tolist())
        elif not np.isfinite(values).all():
            raise matrix.fail("holds numbers that are not finite: the file is damaged")
    figures.weights += weights
    if not isinstance(decoded, np.ndarray):
        _scales(figures, matrix, decoded.scales)
    for name, _, content in placed:
        if name.endswith(".scale") and not np.isfinite(content).all():
            raise matrix.fail("has a scale that is too large for float16, or not finite: the file is damaged")


def count_rounding(figures: Figures, decoded: NDArray[np.float32], placed: list[Placed]) -> None:
    """Add what rounding to bytes changed."""
    codes = next(content for name, _, content in placed if name.endswith(".weight"))
    scales = next(content for name, _, content in placed if name.endswith(".scale")).astype(np.float32)
    kept = codes.reshape(*scales.shape, -1) * scales[..., None]
    figures.squares += float(np.square(decoded, dtype=np.float64).sum())
    figures.error_squares += float(np.square(decoded - kept.reshape(decoded.shape), dtype=np.float64).sum())


def _scales(figures: Figures, matrix: Matrix, scales: NDArray[np.float32]) -> None:
    if not np.isfinite(scales).all():
        raise matrix.fail("has a scale that is not finite: the file is damaged")
    sizes = np.abs(scales)
    figures.least_scale = min(figures.least_scale, float(sizes.min()))
    figures.most_scale = max(figures.most_scale, float(sizes.max()))


def fault(figures: Figures, kept: Kept) -> str | None:
    """What looks wrong with a whole matrix of few bits, in words, or None."""
    if kept.matrix.form not in ("signs", "levels", "ternary") or figures.weights < _LEAST_WEIGHTS:
        return None
    if figures.most_scale == 0:
        return "all its scales are 0"
    if len(figures.codes) < 2:
        return "all its weights are the same"
    if not SIGN_SHARES[0] <= figures.positive_share <= SIGN_SHARES[1]:
        return f"{figures.positive_share:.0%} of its weights other than 0 are above 0: needs {SIGN_SHARES[0]:.0%} to {SIGN_SHARES[1]:.0%}"
    if kept.matrix.form != "signs" and not ZERO_SHARES[0] <= figures.zero_share <= ZERO_SHARES[1]:
        return f"{figures.zero_share:.0%} of its weights are 0: needs {ZERO_SHARES[0]:.0%} to {ZERO_SHARES[1]:.0%}"
    return None
