"""Beginnings of texts that the engine has already: a new text with the same beginning takes a copy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

# Copying a shorter beginning saves less than it costs.
LEAST_SHARED = 8


class Prefixes:
    """The sequences of texts that have ended, as long as there is room.

    Args:
        engine: the decoder that has them.
        most: how many are kept; 0 for none.
    """

    def __init__(self, engine: Any, most: int) -> None:
        self._engine, self._most = engine, most
        self._kept: OrderedDict[int, Sequence[int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, sequence: int, tokens: Sequence[int]) -> None:
        """Take over a sequence that holds such tokens, and close the one that was not used for longest."""
        shared = {number: common(kept, tokens) for number, kept in self._kept.items()}
        if self._most == 0 or len(tokens) < LEAST_SHARED or len(tokens) in shared.values():
            self._engine.close(sequence)
            return
        # One that begins the new one serves nobody any more.
        for number, length in shared.items():
            if length == len(self._kept[number]):
                self._close(number)
        self._kept[sequence] = tokens
        while len(self._kept) > self._most:
            self._close(next(iter(self._kept)))

    def clear(self) -> None:
        """Close all."""
        for number in list(self._kept):
            self._close(number)

    def _close(self, number: int) -> None:
        del self._kept[number]
        self._engine.close(number)

    def open(self, tokens: Sequence[int], others: Iterable[tuple[int, Sequence[int]]]) -> tuple[int, int]:
        """A sequence for a text that begins with such tokens, and how many of them it has already: never all.

        Args:
            tokens: those that the text begins with.
            others: further sequences with their tokens, which go on.
        """
        most = len(tokens) - 1
        best, length = -1, 0
        for number, kept in [*self._kept.items(), *others]:
            shared = min(most, common(kept, tokens))
            if shared > length:
                best, length = number, shared
        if length < LEAST_SHARED:
            return self._engine.open(), 0
        if best in self._kept:
            self._kept.move_to_end(best)
        return self._engine.fork(best, length), length


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginnings."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
