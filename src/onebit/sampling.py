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

    Raises:
        OnebitError: a value is out of range.

    Example:
        >>> Sampling(temperature=0.5, seed=1)
        Sampling(temperature=0.5, top_k=None, top_p=0.9, repetition_penalty=1.0, seed=1)
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = 0.9
    repetition_penalty: float = 1.0
    seed: int | None = None

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

    def chance(self, index: int = 0) -> np.random.Generator:
        """The random generator of a text. Of several texts written at once, text `index` has the seed `seed` + index."""
        import numpy as np

        return np.random.default_rng(None if self.seed is None else int(self.seed) + index)

    def choose(
        self, logits: NDArray[np.float32], past: Sequence[int], random: np.random.Generator, never: Sequence[int] = ()
    ) -> int:
        """Choose the next token.

        Args:
            logits: (vocabulary,).
            past: the tokens of the text so far.
            random: see `chance`.
            never: tokens that must not be chosen.
        """
        return choose_each(logits[None], [(self, past, random)], never)[0]

    def _penalise(self, scores: NDArray[Any], past: Sequence[int]) -> None:
        """Apply the repetition penalty to scores (vocabulary,), in place."""
        import numpy as np

        seen = np.unique(np.asarray(past))
        scores[seen] = np.where(
            scores[seen] > 0, scores[seen] / self.repetition_penalty, scores[seen] * self.repetition_penalty
        )

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
    texts: Sequence[tuple[Sampling, Sequence[int], np.random.Generator]],
    never: Sequence[int] = (),
) -> list[int]:
    """Choose the next token of each of several texts. Each gets the same token as alone.

    Args:
        logits: (texts, vocabulary).
        texts: of each text its sampling, its tokens so far, and its random generator.
        never: tokens that must not be chosen.
    """
    import numpy as np

    scores = logits.astype(np.float64)
    for row, (sampling, past, _) in zip(scores, texts, strict=True):
        if sampling.repetition_penalty != 1 and len(past):
            sampling._penalise(row, past)
    scores[:, list(never)] = -np.inf
    best = scores.argmax(-1)
    if not any(sampling.temperature for sampling, _, _ in texts):
        return [int(token) for token in best]
    temperatures = np.array([[sampling.temperature or 1.0] for sampling, _, _ in texts])
    with np.errstate(over="ignore"):  # a temperature near 0: all but the most probable tokens get the weight 0
        scores -= scores[np.arange(len(best)), best][:, None]
        scores /= temperatures
        np.exp(scores, out=scores)
    return [
        sampling._draw(powers, random) if sampling.temperature else int(token)
        for powers, (sampling, _, random), token in zip(scores, texts, best, strict=True)
    ]


def _largest(powers: NDArray[Any], count: int) -> NDArray[Any]:
    """The largest numbers, the largest first."""
    import numpy as np

    kept = np.partition(powers, len(powers) - count)[len(powers) - count :]
    kept[::-1].sort()
    return kept
