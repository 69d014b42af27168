"""Choose the next token of a text from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypedDict

from onebit.errors import OnebitError

# NumPy is imported where it is used: the command's parser needs only the defaults below, and must start quickly.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# More than any vocabulary has.
_MOST_TOKENS = 1 << 24


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, as keywords of the methods that generate text."""

    temperature: float
    top_k: int | None
    top_p: float | None
    repetition_penalty: float
    seed: int | None
    min_p: float
    presence_penalty: float


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def is_integer(value: object, least: int) -> bool:
    """Whether a value is an integer of Python or NumPy and at least `least`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


@dataclass(frozen=True)
class Sampling:
    """How to choose the next token of a text. Python and the command have the same defaults.

    Args:
        temperature: divides the logits. 0 always takes the most probable token (greedy).
        top_k: sample from the k most probable tokens; None for all.
        top_p: sample from the most probable tokens with this total probability; None or 1 for all.
        repetition_penalty: for tokens that the text already contains, divides positive logits and multiplies negative ones
            (Keskar et al., arXiv 1909.05858); 1 turns it off.
        seed: the random seed, at least 0; None gives another text each time.
        min_p: sample from tokens with at least this share of the most probable token's probability, after top_k and top_p
            (Nguyen et al., arXiv 2407.01082); 0 for all.
        presence_penalty: is taken from the logits of tokens that were written already, as in OpenAI's API; those of the prompt do not count.

    Raises:
        OnebitError: a value is out of range.

    Example:
        >>> Sampling(temperature=0.5, seed=1)
        Sampling(temperature=0.5, top_k=None, top_p=0.9, repetition_penalty=1.0, seed=1, min_p=0.0, presence_penalty=0.0)
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = 0.9
    repetition_penalty: float = 1.0
    seed: int | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not 0 <= self.temperature < float("inf"):
            raise OnebitError(
                f"[generate] temperature={self.temperature!r}: use 0 (always the most probable token) or more"
            )
        if self.top_k is not None and not is_integer(self.top_k, 1):
            raise OnebitError(f"[generate] top_k={self.top_k!r}: use an integer from 1 up, or None for all tokens")
        if self.top_p is not None and not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise OnebitError(
                f"[generate] top_p={self.top_p!r}: use a number above 0, at most 1, or None for all tokens"
            )
        if not _is_number(self.repetition_penalty) or not 0 < self.repetition_penalty < float("inf"):
            raise OnebitError(
                f"[generate] repetition_penalty={self.repetition_penalty!r}: use a number above 0; 1 turns it off"
            )
        if self.seed is not None and not is_integer(self.seed, 0):
            raise OnebitError(
                f"[generate] seed={self.seed!r}: use an integer from 0 up, or None for another text each time"
            )
        if not _is_number(self.min_p) or not 0 <= self.min_p <= 1:
            raise OnebitError(f"[generate] min_p={self.min_p!r}: use a number from 0 (all tokens) to 1")
        if not _is_number(self.presence_penalty) or not abs(self.presence_penalty) < float("inf"):
            raise OnebitError(f"[generate] presence_penalty={self.presence_penalty!r}: use a number; 0 turns it off")

    def chance(self, index: int = 0) -> np.random.Generator:
        """The random generator of a text. Of several texts written at once, text `index` has the seed `seed` + index."""
        import numpy as np

        return np.random.default_rng(None if self.seed is None else int(self.seed) + index)

    def choose(
        self,
        logits: NDArray[np.float32],
        past: Sequence[int],
        random: np.random.Generator,
        never: Sequence[int] = (),
        made: int = 0,
    ) -> int:
        """Choose the next token.

        Args:
            logits: (vocabulary,).
            past: the tokens of the text so far.
            random: see `chance`.
            never: tokens that must not be chosen.
            made: how many of the last tokens of `past` were written; the others are the prompt's.
        """
        return choose_each(logits[None], [(self, past, random, made)], never)[0]

    def _penalise(self, scores: NDArray[Any], past: Sequence[int], made: int) -> None:
        """Apply the penalties to scores (vocabulary,), in place."""
        import numpy as np

        if self.repetition_penalty != 1 and len(past):
            seen = np.unique(np.asarray(past))
            scores[seen] = np.where(
                scores[seen] > 0, scores[seen] / self.repetition_penalty, scores[seen] * self.repetition_penalty
            )
        if self.presence_penalty and made:
            scores[np.unique(np.asarray(past[-made:]))] -= self.presence_penalty

    @cached_property
    def _cuts(self) -> tuple[float, int, float, float]:
        """As the engine takes them: temperature, top_k, top_p, min_p."""
        most = 0 if self.top_k is None else min(int(self.top_k), _MOST_TOKENS)
        return float(self.temperature), most, 1.0 if self.top_p is None else float(self.top_p), float(self.min_p)


def choose_each(
    logits: NDArray[np.float32],
    texts: Sequence[tuple[Sampling, Sequence[int], np.random.Generator, int]],
    never: Sequence[int] = (),
) -> list[int]:
    """Choose the next token of each of several texts. Each gets the same token as alone.

    Args:
        logits: (texts, vocabulary).
        texts: of each text its sampling, its tokens so far, its random generator, and how many of its tokens were written.
        never: tokens that must not be chosen.
    """
    from onebit._engine import choose

    scores: NDArray[Any] = logits
    for place, (sampling, past, _, made) in enumerate(texts):
        if (sampling.repetition_penalty != 1 and len(past)) or (sampling.presence_penalty and made):
            if scores is logits:
                scores = logits.astype(float)
            sampling._penalise(scores[place], past, made)
    draws = [(*sampling._cuts, random.random() if sampling.temperature else 0.0) for sampling, _, random, _ in texts]
    chosen = choose(scores, draws, never)
    if -1 in chosen:
        raise OnebitError("[generate] the model gives no logits that are numbers: its parameters are damaged")
    return chosen
