"""Whether a classifier's probabilities mean what they say: expected calibration error, and the temperature that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
# Of 1 / temperature. A network whose answers are all right, or no better than chance, has its minimum beyond every bound.
_SHARPEST, _FLATTEST = 100.0, 0.01
_STEPS = 200


@dataclass(frozen=True)
class Reliability:
    """How often answers of each confidence were right.

    Args:
        counts: answers in each bin of confidence; the bins divide 0 to 1 evenly.
        confidence: the mean probability that the answers of each bin were given; 0 in empty bins.
        accuracy: the share of right answers in each bin; 0 in empty bins.

    Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599).
    """

    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance between confidence and accuracy, over the answers."""
        return sum(
            count * abs(confidence - accuracy)
            for count, confidence, accuracy in zip(self.counts, self.confidence, self.accuracy, strict=True)
        ) / sum(self.counts)


def reliability(confidence: NDArray[Any], right: NDArray[Any], bins: int = BINS) -> Reliability:
    """Count how often answers of each confidence were right.

    Args:
        confidence: the probability that each answer was given, (answers,).
        right: whether it was right, (answers,).
        bins: of confidence.

    Raises:
        ValueError: there are no answers.

    Example:
        >>> reliability(np.array([0.9, 0.9]), np.array([True, False])).error
        0.4
    """
    if not len(right):
        raise ValueError("[confidence] no answers: needs at least one")
    sure = confidence.astype(np.float64)
    # A bin holds its upper end, so that certain answers lie in the last one.
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    some = np.maximum(counts, 1)
    return Reliability(
        tuple(counts.tolist()),
        tuple((np.bincount(place, sure, bins) / some).tolist()),
        tuple((np.bincount(place, right, bins) / some).tolist()),
    )


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """What logits are divided by so that their softmax has the least cross-entropy on answers that are known.

    Which class is the most probable stays the same. The cross-entropy is convex in 1 / temperature: Newton's steps between
    bounds, which halve the distance where a step would leave them.

    Args:
        logits: (answers, classes), of examples that the network was not trained on.
        labels: the right classes, (answers,).

    Returns:
        From 0.01 to 100. 1 where no temperature is better than another: no answers, logits that are all equal, or some that are not finite.

    Source: Guo et al. (arXiv 1706.04599), section 4.2.
    """
    if not len(labels) or not np.isfinite(logits).all():
        return 1.0
    # Differences to the largest logit: the softmax is the same, and nothing overflows.
    apart = logits.astype(np.float64) - logits.max(1, keepdims=True)
    if not apart.any():
        return 1.0
    of_right = apart[np.arange(len(labels)), labels]
    low, high, sharpness = _FLATTEST, _SHARPEST, 1.0
    for _ in range(_STEPS):
        powers = np.exp(sharpness * apart)
        shares = powers / powers.sum(1, keepdims=True)
        means = (shares * apart).sum(1)
        slope = float((means - of_right).mean())
        curvature = float(((shares * apart**2).sum(1) - means**2).mean())
        low, high = (low, sharpness) if slope > 0 else (sharpness, high)
        step = sharpness - slope / curvature if curvature > 0 else low
        previous, sharpness = sharpness, step if low < step < high else (low + high) / 2
        if abs(sharpness - previous) < 1e-9 * sharpness:
            break
    return 1 / sharpness
