"""Metrics of language models, over real tokens only, and of image classifiers, with their confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onebit.confidence import Reliability, reliability

# The number of rows of logits that are turned into probabilities at once.
_ROWS = 16


class Metrics(Protocol):
    """Sums over the outputs of a network, and the figures that follow from them, for any kind of task."""

    def add(self, outputs: NDArray[np.float32], answers: Any, groups: Sequence[str] | None = None) -> None:
        """Add outputs (n, ...), the right answers to them, and for each whom it is from where that is known."""

    def figures(self) -> dict[str, Any]:
        """The figures by their names: numbers, and what belongs to them."""
        ...


@dataclass
class TextMetrics:
    """Sums over evaluated tokens, and the figures that follow from them.

    Args:
        tokenizer: a description that is printed with the figures.
        context: the most tokens that a prediction looked at.
        tokens_per_byte: predicted tokens per byte of the text in UTF-8.
    """

    tokenizer: str
    context: int
    tokens_per_byte: float
    tokens: int = 0
    nats: float = 0.0
    right: int = 0
    padding: int = 0
    padding_nats: float = 0.0
    padding_right: int = 0

    def add(self, nats: NDArray[Any], right: NDArray[Any], counted: NDArray[np.bool_]) -> None:
        """Add tokens: their negative log-probabilities, whether each was the most probable, and whether each is real (not padding)."""
        self.tokens += int(counted.sum())
        self.nats += float(nats[counted].sum(dtype=np.float64))
        self.right += int(right[counted].sum())
        self.padding += int((~counted).sum())
        self.padding_nats += float(nats[~counted].sum(dtype=np.float64))
        self.padding_right += int(right[~counted].sum())

    def figures(self, padded: bool = False) -> dict[str, Any]:
        """The figures, with the tokenizer, the context and the number of tokens that they belong to.

        Args:
            padded: add the figures that count padding as tokens, as the paper's tables seem to do. Use them only for comparison with those
                tables: padding is easy to predict, so they look better than they are.
        """
        loss = self.nats / self.tokens
        figures: dict[str, Any] = {
            "loss": loss,
            "perplexity": _exp(loss),
            "accuracy": self.right / self.tokens,
            "bits_per_byte": loss / math.log(2) * self.tokens_per_byte,
            "tokens": self.tokens,
            "tokenizer": self.tokenizer,
            "context": self.context,
        }
        if padded:
            count = self.tokens + self.padding
            loss = (self.nats + self.padding_nats) / count
            figures["padded_perplexity_not_comparable"] = _exp(loss)
            figures["padded_accuracy_not_comparable"] = (self.right + self.padding_right) / count
        return figures


@dataclass
class AnswerMetrics:
    """Sums over the answers of a classifier, and the figures that follow from them."""

    nats: float = 0.0
    _right: list[NDArray[np.bool_]] = field(default_factory=list)
    _confidence: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Add answers: logits (answers, classes) and the right classes (answers,)."""
        nats, right = nats_of(logits, labels)
        # The answer has the largest logit, so its probability is 1 / sum(exp(logits - largest)).
        self._confidence.append(1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1))
        self._right.append(right)
        self.nats += float(nats.sum(dtype=np.float64))

    @property
    def reliability(self) -> Reliability:
        """How often the answers of each confidence are right."""
        return reliability(np.concatenate(self._confidence), np.concatenate(self._right))

    def figures(self) -> dict[str, Any]:
        """Accuracy, loss, mean confidence, calibration error and the number of images."""
        right, confidence = np.concatenate(self._right), np.concatenate(self._confidence)
        return {
            "accuracy": float(right.mean()),
            "loss": self.nats / len(right),
            "confidence": float(confidence.mean(dtype=np.float64)),
            "calibration_error": reliability(confidence, right).error,
            "images": len(right),
            "reliability": self.reliability,
        }


def nats_of(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The negative log-probability of each target, and whether it has the largest logit. Logits (n, vocabulary), targets (n,)."""
    nats, right = np.empty(len(targets), np.float32), np.empty(len(targets), bool)
    # Few rows at a time, so that they stay in the cache for all passes.
    powers = np.empty((min(_ROWS, len(targets)), logits.shape[-1]), np.float32)
    for first in range(0, len(targets), _ROWS):
        some, wanted = logits[first : first + _ROWS], targets[first : first + _ROWS]
        rows, best, of_some = np.arange(len(some)), some.argmax(-1), powers[: len(some)]
        largest = some[rows, best]
        np.exp(np.subtract(some, largest[:, None], out=of_some), out=of_some)
        total = np.log(of_some.sum(-1).astype(np.float64)) + largest
        nats[first : first + _ROWS] = total - some[rows, wanted]
        right[first : first + _ROWS] = best == wanted
    return nats, right


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf
