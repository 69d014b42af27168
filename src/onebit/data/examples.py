"""Examples for a language model, cut from the tokens of a text: packed windows or padded sentences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.data.tokens import TextSet
from onebit.errors import DataError

Kind = Literal["windows", "sentences"]
# The target that losses and metrics ignore. It is the default `ignore_index` of PyTorch's cross-entropy.
NOT_COUNTED = -100


class Examples:
    """Pairs of inputs and targets (the tokens that follow them).

    Args:
        text: tokens, with separators.
        context: the number of tokens in an example's input.
        kind: ``"windows"`` cuts the whole text into consecutive windows of `context` tokens; each token is a target once.
            ``"sentences"`` cuts from one separator to the next, at most `context` tokens, padded to `context` as in the paper.
        pad: the padding token. Targets that are padding are NOT_COUNTED.
        offset: the start of the first window ("windows").
        separator: the token that divides sentences ("sentences").

    Raises:
        DataError: the text is too short for one example.
    """

    def __init__(
        self, text: TextSet, context: int, kind: Kind = "windows", pad: int = 0, separator: int = 0, offset: int = 0
    ) -> None:
        self._tokens = text.tokens
        self.context = context
        self.kind = kind
        self._pad = pad
        last = len(text) - 1  # each input is followed by its target
        if kind == "windows":
            self._starts = np.arange(offset, last, context, dtype=np.int64)
            self._ends = np.minimum(self._starts + context, last)
        else:
            separators = _find(text.tokens, separator)
            self._starts = separators[:-1]
            self._ends = np.minimum(self._starts + context, separators[1:])
        if not len(self._starts):
            raise DataError(f"[{text.source}] has {len(text)} tokens: too few for one example")

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The inputs and targets of some examples, int64 (n, context) each. Targets that are padding are NOT_COUNTED."""
        inputs = np.full((len(indices), self.context), self._pad, np.int64)
        targets = np.full((len(indices), self.context), NOT_COUNTED, np.int64)
        for row, index in enumerate(indices):
            start, end = self._starts[index], self._ends[index]
            stretch = self._tokens[start : end + 1].astype(np.int64)
            inputs[row, : end - start] = stretch[:-1]
            targets[row, : end - start] = stretch[1:]
        return inputs, targets


def _find(tokens: NDArray[Any], separator: int) -> NDArray[np.int64]:
    """The positions of the separators, found piece by piece, because the tokens may not fit in memory."""
    step = 1 << 22
    found = [start + np.flatnonzero(tokens[start : start + step] == separator) for start in range(0, len(tokens), step)]
    return np.concatenate(found).astype(np.int64)
