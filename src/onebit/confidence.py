"""How far a classifier's probabilities can be trusted: expected calibration error and temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
# Bounds of 1 / temperature. If answers are no better than chance, the minimum lies beyond every bound.
_SHARPEST, _FLATTEST = 100.0, 0.01
_STEPS = 200


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: how often the answers of each confidence are right.

    Args:
        counts: answers in each bin of confidence. The bins divide 0 to 1 evenly.
        confidence: the mean confidence of the answers in each bin; 0 in empty bins.
        accuracy: the share of right answers in each bin; 0 in empty bins.

    Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599).
    """

    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {name: list(values) for name, values in vars(self).items()}

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance between confidence and accuracy, over the answers."""
        return sum(
            count * abs(confidence - accuracy)
            for count, confidence, accuracy in zip(self.counts, self.confidence, self.accuracy, strict=True)
        ) / sum(self.counts)


def reliability(confidence: NDArray[Any], right: NDArray[Any], bins: int = BINS) -> Reliability:
    """Count how often the answers of each confidence are right.

    Args:
        confidence: the probability that the classifier gave to each answer, (answers,).
        right: whether each answer is right, (answers,).
        bins: the number of bins.

    Raises:
        ValueError: there are no answers.

    Example:
        >>> reliability(np.array([0.9, 0.9]), np.array([True, False])).error
        0.4
    """
    if not len(right):
        raise ValueError("[confidence] there are no answers: give at least one")
    sure = confidence.astype(np.float64)
    # Each bin includes its upper end, so that answers with confidence 1 lie in the last one.
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    some = np.maximum(counts, 1)
    return Reliability(
        tuple(counts.tolist()),
        tuple((np.bincount(place, sure, bins) / some).tolist()),
        tuple((np.bincount(place, right, bins) / some).tolist()),
    )


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature that minimises the cross-entropy of `softmax(logits / temperature)` on known labels, with a doubt.

    Few answers prove little: ten of them that are all right do not make a network certain. So the labels share 1 / (answers + 2)
    of their weight evenly among all classes.

    Dividing by it does not change which class is the most probable. The cross-entropy is convex in 1 / temperature. Newton's
    method finds the minimum between bounds; a step that would leave the bounds halves the interval instead.

    Args:
        logits: (answers, classes), of examples that the network was not trained on.
        labels: the right classes, (answers,).

    Returns:
        A number from 0.01 to 100. It is 1 if there are no answers, if all logits are equal, or if some are not finite.

    Source: Guo et al. (arXiv 1706.04599), section 4.2; the doubt as in Platt, Probabilistic outputs for support vector machines
    (1999), section 2.2.
    """
    if not len(labels) or not np.isfinite(logits).all():
        return 1.0
    # Subtracting the largest logit leaves the softmax as it is and prevents overflow.
    apart = logits.astype(np.float64) - logits.max(1, keepdims=True)
    if not apart.any():
        return 1.0
    doubt = 1 / (len(labels) + 2)
    of_right = (1 - doubt) * apart[np.arange(len(labels)), labels] + doubt * apart.mean(1)
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
