"""Examples for a language model, cut out of a text's tokens: packed windows, or padded sentences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.data.tokens import TextSet
from onebit.errors import DataError

Kind = Literal["windows", "sentences"]
# Targets that count in no loss and no metric; PyTorch's cross-entropy knows the number.
NOT_COUNTED = -100


class Examples:
    """Pairs of inputs and targets (the tokens that follow them).

    Args:
        text: tokens, with separators.
        context: tokens of an example's input.
        kind: ``"windows"``: consecutive stretches of `context` tokens over all of the text, each token a target once;
            ``"sentences"``: from one separator to the next, cut at `context` and padded to it, as in the paper.
        pad: the token that fills up; a target that is padding is NOT_COUNTED.
        offset: where the first window begins ("windows").
        separator: the token that divides sentences ("sentences").

    Raises:
        DataError: there is no whole example.
    """

    def __init__(
        self, text: TextSet, context: int, kind: Kind = "windows", pad: int = 0, separator: int = 0, offset: int = 0
    ) -> None:
        self._tokens = text.tokens
        self.context = context
        self.kind = kind
        self._pad = pad
        last = len(text) - 1  # a target stands behind each input
        if kind == "windows":
            self._starts = np.arange(offset, last, context, dtype=np.int64)
            self._ends = np.minimum(self._starts + context, last)
        else:
            separators = _find(text.tokens, separator)
            self._starts = separators[:-1]
            self._ends = np.minimum(self._starts + context, separators[1:])
        if not len(self._starts):
            raise DataError(f"[{text.source}] holds {len(text)} tokens: too few for one example")

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The inputs and targets of some examples, int64 (n, context) each; targets of padding are NOT_COUNTED."""
        inputs = np.full((len(indices), self.context), self._pad, np.int64)
        targets = np.full((len(indices), self.context), NOT_COUNTED, np.int64)
        for row, index in enumerate(indices):
            start, end = self._starts[index], self._ends[index]
            stretch = self._tokens[start : end + 1].astype(np.int64)
            inputs[row, : end - start] = stretch[:-1]
            targets[row, : end - start] = stretch[1:]
        return inputs, targets


def _find(tokens: NDArray[Any], separator: int) -> NDArray[np.int64]:
    """Where the separators stand, found piece by piece: the tokens need not fit in memory."""
    step = 1 << 22
    found = [start + np.flatnonzero(tokens[start : start + step] == separator) for start in range(0, len(tokens), step)]
    return np.concatenate(found).astype(np.int64)
