"""Choose the next token of a text from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypedDict

from onebit.errors import OnebitError

# NumPy is imported where it is used: the command's parser needs only the defaults below, and must start quickly.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FEW_TOKENS = 512


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

    def _draw(self, powers: NDArray[Any], random: np.random.Generator) -> int:
        """A token by its share of `powers` (vocabulary,), the largest of which is 1."""
        import numpy as np

        kept = self._kept(powers)
        sums = (powers if kept is None else kept).cumsum()
        place = min(int(np.searchsorted(sums, random.random() * sums[-1], side="right")), len(sums) - 1)
        if kept is None:
            return place
        # Of equally probable tokens the first comes first.
        value = kept[place]
        return int(np.flatnonzero(powers == value)[place - np.count_nonzero(kept > value)])

    def _kept(self, powers: NDArray[Any]) -> NDArray[Any] | None:
        """The powers that top_k, top_p and min_p keep, the largest first; None if they keep all."""
        import numpy as np

        kept = self._most_probable(powers)
        if not self.min_p:
            return kept
        if kept is None:
            kept = powers[powers >= self.min_p]
            kept[::-1].sort()
        # The largest is 1.
        return kept[: len(kept) - int(np.searchsorted(kept[::-1], self.min_p))]

    def _most_probable(self, powers: NDArray[Any]) -> NDArray[Any] | None:
        """The powers that top_k and top_p keep, the largest first; None if they keep all."""
        import numpy as np

        count = len(powers)
        if self.top_p in (None, 1):
            return None if self.top_k is None or self.top_k >= count else _largest(powers, self.top_k)
        if self.top_k is not None and self.top_k < count:
            powers = _largest(powers, self.top_k)
        # top_p is a share of the probability that top_k keeps.
        total = powers.sum()
        share = self.top_p * total
        # Sorting a whole vocabulary takes longer than computing its logits, and top_p often needs few tokens. The last limit is small enough: all
        # powers below it have together less than the share that is cut.
        for tokens in (_FEW_TOKENS, 2 * count):
            kept = powers[powers >= (total - share) / tokens]
            kept[::-1].sort()
            sums = kept.cumsum()
            if len(sums) and sums[-1] >= share:
                break
        return kept[: int(np.searchsorted(sums, share)) + 1]


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
    import numpy as np

    scores = logits.astype(np.float64)
    for row, (sampling, past, _, made) in zip(scores, texts, strict=True):
        sampling._penalise(row, past, made)
    scores[:, list(never)] = -np.inf
    best = scores.argmax(-1)
    if not any(sampling.temperature for sampling, *_ in texts):
        return [int(token) for token in best]
    temperatures = np.array([[sampling.temperature or 1.0] for sampling, *_ in texts])
    with np.errstate(over="ignore"):  # a temperature near 0: all but the most probable tokens get the weight 0
        scores -= scores[np.arange(len(best)), best][:, None]
        scores /= temperatures
        np.exp(scores, out=scores)
    return [
        sampling._draw(powers, random) if sampling.temperature else int(token)
        for powers, (sampling, _, random, _), token in zip(scores, texts, best, strict=True)
    ]


def _largest(powers: NDArray[Any], count: int) -> NDArray[Any]:
    """The largest numbers, the largest first."""
    import numpy as np

    kept = np.partition(powers, len(powers) - count)[len(powers) - count :]
    kept[::-1].sort()
    return kept
