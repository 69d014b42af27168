"""Choosing the next token from its logits; and the arguments of writing, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError

_FIRST_CANDIDATES = 256


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_length(max_new_tokens: object, overflow: object) -> None:
    """Raises OnebitError where there is no such number of tokens, or no such way to go on when the context is full."""
    if not _is_integer(max_new_tokens, 1):
        raise OnebitError(f"[generate] max_new_tokens={max_new_tokens!r}: use an integer from 1 up")
    if not isinstance(overflow, str) or overflow not in ("slide", "stop"):
        raise OnebitError(f"[generate] overflow={overflow!r}: use 'slide' or 'stop'")


def check_seed(seed: int | None) -> int | None:
    """A seed as a plain number, or None for chance; raises OnebitError where NumPy would take it for neither."""
    if seed is None:
        return None
    if not _is_integer(seed, 0):
        raise OnebitError(f"[generate] seed={seed!r}: use an integer from 0 up, or None for another text each time")
    return int(seed)


def check_stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """The texts at which writing ends; raises OnebitError where one is empty or not a text."""
    if stop is None:
        return ()
    texts = (stop,) if isinstance(stop, str) else stop
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise OnebitError(f"[generate] stop={stop!r}: give a text, a list of texts, or None")
    if not all(texts):
        raise OnebitError("[generate] stop is empty: give a text, or None")
    return tuple(texts)


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        temperature: divides the logits; 0 takes the most probable token (greedy).
        top_k: only the k most probable tokens; None for all.
        top_p: only the most probable tokens that together have this probability; None for all.
        repetition_penalty: logits of tokens that stand in the text already are divided by it where positive, multiplied where negative
            (Keskar et al., arXiv 1909.05858); 1 for none.

    Raises:
        OnebitError: a value is out of range.
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not 0 <= self.temperature < float("inf"):
            raise OnebitError(
                f"[generate] temperature={self.temperature!r}: use 0 (the most probable token always) or more"
            )
        if self.top_k is not None and not _is_integer(self.top_k, 1):
            raise OnebitError(f"[generate] top_k={self.top_k!r}: use an integer from 1 up, or None for all tokens")
        if self.top_p is not None and not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise OnebitError(
                f"[generate] top_p={self.top_p!r}: use a number above 0, at most 1, or None for all tokens"
            )
        if not _is_number(self.repetition_penalty) or not 0 < self.repetition_penalty < float("inf"):
            raise OnebitError(
                f"[generate] repetition_penalty={self.repetition_penalty!r}: use a number above 0; 1 for none"
            )

    def choose(
        self, logits: NDArray[np.float32], past: Sequence[int], random: np.random.Generator, never: Sequence[int] = ()
    ) -> int:
        """The next token.

        Args:
            logits: (vocabulary,).
            past: the tokens of the text so far.
            random: where chance comes from.
            never: tokens that are not to be chosen.
        """
        scores = logits.astype(np.float64)
        if self.repetition_penalty != 1 and len(past):
            seen = np.unique(np.asarray(past))
            scores[seen] = np.where(
                scores[seen] > 0, scores[seen] / self.repetition_penalty, scores[seen] * self.repetition_penalty
            )
        scores[list(never)] = -np.inf
        if self.temperature == 0:
            return int(scores.argmax())
        with np.errstate(over="ignore"):  # of a temperature near 0: all but the most probable tokens have the power 0
            powers = np.exp((scores - scores.max()) / self.temperature)
        candidates = self._candidates(powers)
        if candidates is not None:
            powers = powers[candidates]
        sums = powers.cumsum()
        chosen = min(int(np.searchsorted(sums, random.random() * sums[-1], side="right")), len(sums) - 1)
        return chosen if candidates is None else int(candidates[chosen])

    def _candidates(self, powers: NDArray[Any]) -> NDArray[np.int64] | None:
        """The tokens that top_k and top_p leave, the most probable first; None for all, in their order."""
        if self.top_k is None and self.top_p is None:
            return None
        count = len(powers)
        kept = min(self.top_k or count, count)
        # Sorting a whole vocabulary takes longer than computing its logits; few tokens are often enough for top_p.
        size = kept if self.top_p is None else min(kept, _FIRST_CANDIDATES)
        while True:
            best = np.argpartition(-powers, size - 1)[:size] if size < count else np.arange(count)
            best = best[np.argsort(-powers[best], kind="stable")]
            if self.top_p is None:
                return best
            # top_p is a share of what top_k leaves.
            total = powers.sum() if kept == count else np.partition(powers, count - kept)[count - kept :].sum()
            sums = powers[best].cumsum()
            if size == kept or sums[-1] >= self.top_p * total:
                return best[: int(np.searchsorted(sums, self.top_p * total)) + 1]
            size = min(kept, 8 * size)
