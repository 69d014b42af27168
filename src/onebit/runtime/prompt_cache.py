"""The last text of a session's chats, as the engine has it: a prompt with the same beginning computes only what is new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from onebit.runtime.token_sequence import TokenSequence


class PromptCache:
    """Keeps one text. Several threads may use it; each has a sequence to itself while it writes.

    Args:
        open_sequence: makes an empty sequence.
    """

    def __init__(self, open_sequence: Callable[[], TokenSequence]) -> None:
        self._open = open_sequence
        self._kept: tuple[TokenSequence, list[int]] | None = None
        self._lock = Lock()

    def take(self, tokens: Sequence[int]) -> TokenSequence:
        """A sequence with what the kept text and `tokens` have in common at their beginnings, all tokens but the last at most."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is None:
            return self._open()
        sequence, read = kept
        sequence.cut(common(read, tokens[:-1]))
        return sequence

    def shared(self, tokens: Sequence[int]) -> int:
        """How many tokens `take` would find."""
        with self._lock:
            return 0 if self._kept is None else common(self._kept[1], tokens[:-1])

    def keep(self, sequence: TokenSequence, tokens: Sequence[int]) -> None:
        """Give a sequence back that holds such tokens. It takes the place of the one that is kept."""
        with self._lock:
            old, self._kept = self._kept, (sequence, list(tokens))
        if old is not None:
            old[0].close()

    def saved(self) -> tuple[list[int], NDArray[np.uint8]] | None:
        """The tokens that are kept, and what the engine keeps of them; None if nothing is kept."""
        with self._lock:
            return None if self._kept is None else (self._kept[1], self._kept[0].save())

    def clear(self) -> None:
        """Free what is kept."""
        with self._lock:
            old, self._kept = self._kept, None
        if old is not None:
            old[0].close()


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginnings."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
