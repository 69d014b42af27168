"""A text while it is continued: its tokens in and out of the engine, and the piece of it that may begin a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from onebit.runtime.generation import Overflow
from onebit.sampling import Sampling

if TYPE_CHECKING:
    import numpy as np

# The number of prompt tokens that decoding looks at: a space before a word depends on the word before it.
STREAM_CONTEXT = 8


@dataclass(eq=False)
class Continuation:
    """A text during generation.

    Args:
        tokens: all of them so far.
        pending: those that the engine has not seen yet.
        sampling, random: how its tokens are chosen.
        max_new_tokens, overflow: as for `TextSession.generate`.
        context: the most tokens of a sequence.
        sequence: its number in the engine, once it is open there.
        made: how many tokens were written.
        finish: why it ended: the model or a stop text ended it, or its length; "" while it goes on.
        seen: how many tokens the engine has of it.
    """

    tokens: list[int]
    pending: list[int]
    sampling: Sampling
    random: np.random.Generator
    max_new_tokens: int
    overflow: Overflow
    context: int
    sequence: int = -1
    made: int = 0
    finish: Literal["", "stop", "length"] = ""
    seen: int = 0

    def take(self, token: int) -> bool:
        """Append a token, after the engine has seen all that was pending. Returns whether the engine has to forget the sequence's tokens."""
        self.seen += len(self.pending)
        self.tokens.append(token)
        self.pending = [token]
        self.made += 1
        if self.made >= self.max_new_tokens:
            self.finish = "length"
        elif self.seen == self.context:
            if self.overflow == "stop":
                self.finish = "length"
            # Positions are absolute, so the newer half is read again from position 0.
            self.seen = 0
            self.pending = self.tokens[-max(1, self.context // 2) :]
            return True
        return False


class HeldText:
    """Gives out pieces of a text, and holds back what may be the beginning of a stop text.

    Args:
        stops: the texts that end it.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stops = stops
        self.text = ""  # what is held back
        self.stopped = False

    def add(self, piece: str) -> str:
        """The text that a piece makes ready: all but the longest end that may begin a stop text; only what stands before a stop text."""
        if not self.stops:
            return piece
        held = self.text + piece
        found = [held.index(stop) for stop in self.stops if stop in held]
        if found:
            self.text, self.stopped = "", True
            return held[: min(found)]
        ready = len(held) - max(_overlap(held, stop) for stop in self.stops)
        self.text = held[ready:]
        return held[:ready]


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that is a beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
