"""The figures of a classifier of any kind of inputs: accuracy, confidence, each class, and each group of inputs such as a speaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.metrics import AnswerMetrics


class LabelMetrics:
    """Sums over the answers of a classifier, and the figures that follow from them.

    Args:
        labels: the classes in the order of the logits.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._answers = AnswerMetrics()
        self._confusion = np.zeros((len(labels), len(labels)), np.int64)
        self._groups: dict[str, list[int]] = {}

    def add(self, outputs: NDArray[np.float32], answers: Any, groups: Sequence[str] | None = None) -> None:
        """Add logits (n, classes), the right classes (n,), and for each whom it is from where that is known."""
        right = np.asarray(answers, np.int64)
        self._answers.add(outputs, right)
        best = outputs.argmax(1)
        np.add.at(self._confusion, (right, best), 1)
        for name, answer, made in zip(groups or (), right, best, strict=False):
            counts = self._groups.setdefault(name, [0, 0])
            counts[0] += int(answer == made)
            counts[1] += 1

    def figures(self) -> dict[str, Any]:
        """Accuracy, loss, confidence, calibration error, the accuracy of each class and of each group, and what is taken for what."""
        figures = self._answers.figures()
        of = self._confusion.sum(1)
        classes = {label: float(self._confusion[i, i] / of[i]) for i, label in enumerate(self._labels) if of[i]}
        return {
            **{name: figures[name] for name in ("accuracy", "loss", "confidence", "calibration_error")},
            "classes": classes,
            "groups": {name: right / count for name, (right, count) in sorted(self._groups.items())},
            "confused": self.confused(),
        }

    def confused(self, most: int = 3) -> list[tuple[str, str, int]]:
        """What is most often taken for what: the right class, the answer, and how often."""
        wrong = self._confusion - np.diag(self._confusion.diagonal())
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [divmod(int(place), len(self._labels)) for place in order]
        return [(self._labels[i], self._labels[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]
