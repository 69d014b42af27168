"""Classes of texts: what is measured on, the figures in words, and the picture of predictions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onebit.data.arrays import ArraySet, ArraySplits
from onebit.data.text_classes import (
    SUFFIXES,
    Form,
    TextMetrics,
    arrays_of,
    load_texts,
    split_texts,
    splits_of,
    tokenizer_of,
)
from onebit.kinds.kind import Kind
from onebit.kinds.series import told
from onebit.printable import printable
from onebit.tasks.text_classes import TextClassification


class TextClasses(Kind):
    """Texts with a class each."""

    inputs: ClassVar[str] = "texts"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def divided(self, data: str, task: TextClassification, seed: int) -> ArraySplits:
        found = load_texts(data, Form(task.text_column, task.label_column, task.unit))
        tokenizer = tokenizer_of(task.vocabulary)
        parts = [arrays_of(part, task.labels, tokenizer, task.context, data) for part in split_texts(found, seed)]
        return splits_of(parts[0], parts[1], 0.0, seed, data)

    def files(self, paths: Sequence[str], task: TextClassification) -> ArraySet:
        found = [(Path(path).read_text("utf-8", "replace"), task.labels[0]) for path in paths]
        return arrays_of(found, task.labels, tokenizer_of(task.vocabulary), task.context, "files")

    def metrics(self, task: TextClassification) -> TextMetrics:
        return TextMetrics(task.labels)

    def told(self, figures: dict[str, Any]) -> list[str]:
        return told(figures)

    def draw(self, arrays: ArraySet, outputs: NDArray[np.float32], task: TextClassification) -> Any:
        from matplotlib.figure import Figure

        tokenizer = tokenizer_of(task.vocabulary)
        figure = Figure(figsize=(8, 0.6 * len(arrays) + 0.2))
        for i, (label, last) in enumerate(arrays.targets.tolist()):
            logits = outputs[i, last]
            powers = np.exp(logits - logits.max())
            best = int(logits.argmax())
            said = f"{printable(task.labels[best])}  {100 * powers[best] / powers.sum():.0f} %"
            said += "" if best == label else f" (it is {printable(task.labels[label])})"
            top = 1 - (i + 0.1) / len(arrays)
            figure.text(0.01, top, said, va="top", fontsize=9, color="green" if best == label else "red")
            text = textwrap.shorten(printable(tokenizer.decode(arrays.inputs[i, : last + 1].tolist())), 200)
            figure.text(0.33, top, textwrap.fill(text, 85).replace("$", r"\$"), va="top", fontsize=8)
        return figure
