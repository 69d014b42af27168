"""How the next token of a text is chosen from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypedDict

from onebit.errors import OnebitError

# NumPy is imported where it is used: the command's parser reads the defaults below, and is to be made quickly.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIRST_CANDIDATES = 256


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, as keywords of the methods that write text."""

    temperature: float
    top_k: int | None
    top_p: float | None
    repetition_penalty: float
    seed: int | None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def is_integer(value: object, least: int) -> bool:
    """Whether a value is an integer, of Python or of NumPy, from `least` up."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


@dataclass(frozen=True)
class Sampling:
    """How the next token of a text is chosen. Its defaults are those of Python and of the command.

    Args:
        temperature: divides the logits; 0 takes the most probable token (greedy).
        top_k: only the k most probable tokens; None for all.
        top_p: only the most probable tokens that together have this probability; None or 1 for all.
        repetition_penalty: divides the positive logits of tokens that the text has already and multiplies the negative ones
            (Keskar et al., arXiv 1909.05858); 1 for none.
        seed: of chance, from 0 up; None for another text each time.

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
                f"[generate] temperature={self.temperature!r}: use 0 (the most probable token always) or more"
            )
        if self.top_k is not None and not is_integer(self.top_k, 1):
            raise OnebitError(f"[generate] top_k={self.top_k!r}: use an integer from 1 up, or None for all tokens")
        if self.top_p is not None and not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise OnebitError(
                f"[generate] top_p={self.top_p!r}: use a number above 0, at most 1, or None for all tokens"
            )
        if not _is_number(self.repetition_penalty) or not 0 < self.repetition_penalty < float("inf"):
            raise OnebitError(
                f"[generate] repetition_penalty={self.repetition_penalty!r}: use a number above 0; 1 for none"
            )
        if self.seed is not None and not is_integer(self.seed, 0):
            raise OnebitError(
                f"[generate] seed={self.seed!r}: use an integer from 0 up, or None for another text each time"
            )

    def chance(self, index: int = 0) -> np.random.Generator:
        """Where the chance of a text comes from: the text `index` of several written at once has the seed `seed` + index."""
        import numpy as np

        return np.random.default_rng(None if self.seed is None else int(self.seed) + index)

    def choose(
        self, logits: NDArray[np.float32], past: Sequence[int], random: np.random.Generator, never: Sequence[int] = ()
    ) -> int:
        """The next token.

        Args:
            logits: (vocabulary,).
            past: the tokens of the text so far.
            random: see `chance`.
            never: tokens that are not to be chosen.
        """
        import numpy as np

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
        import numpy as np

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
