"""Inputs that are arrays, with what a network is to say of them, in memory, and their seeded division."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError


@dataclass(frozen=True)
class ArraySet:
    """Inputs of one shape and their targets.

    Args:
        inputs: (n, ...) as the program takes them, channels last: float32, uint8 (which stand for a 255th of it), or int64 tokens.
        targets: (n, ...), what training compares outputs with: int64 classes (n,), or arrays.
        truth: what the figures compare outputs with, one entry for each input; None: the targets.
        groups: for each input the name of whom or what it is from, such as its speaker; None: not known.
        notes: what a user should know about them, one sentence each.

    Raises:
        DataError: the parts do not fit together.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    truth: Sequence[Any] | None = None
    groups: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = (self.targets, self.truth, self.groups)
        if any(part is not None and len(part) != len(self.inputs) for part in parts):
            counts = ", ".join(str(len(part)) for part in parts if part is not None)
            raise DataError(f"[ArraySet] {len(self.inputs)} inputs do not fit {counts} of their targets: give as many")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def answers(self) -> Any:
        """What the figures compare outputs with, an entry for each input."""
        return self.targets if self.truth is None else self.truth

    def take(self, indices: NDArray[np.int64]) -> ArraySet:
        """The inputs at `indices`, in their order, with all that belongs to them."""
        return replace(
            self,
            inputs=self.inputs[indices],
            targets=self.targets[indices],
            truth=None if self.truth is None else [self.truth[i] for i in indices],
            groups=None if self.groups is None else tuple(self.groups[i] for i in indices),
        )


@dataclass(frozen=True)
class ArraySplits:
    """Inputs for training, for choosing the best epoch (validation), and for reporting (test).

    Args:
        train, validation, test: disjoint sets. Validation and test may be the same set.
        source: where the inputs came from, for messages.
        notes: what a user should know about them, one sentence each.
        own_test: whether the source itself says which part is for tests.
    """

    train: ArraySet
    validation: ArraySet
    test: ArraySet
    source: str
    notes: tuple[str, ...] = ()
    own_test: bool = False


def divide(
    keys: Sequence[Any], share: float, seed: int, whole: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide at random into two, with the same proportion of every key. The same `seed` always gives the same parts.

    Args:
        keys: of each input, such as its class.
        share: of the second part, above 0 and below 1. Of each key one input at least stays in the first part.
        seed: the random seed.
        whole: of each input the name of its group; groups are not divided then, and keys do not count.

    Returns:
        The indices of the rest and of the share, ascending.

    Raises:
        DataError: there is one group only.
    """
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(keys), bool)
    if whole is not None:
        names = sorted(set(whole))
        if len(names) < 2:
            raise DataError(f"[split] all inputs are of one group, {names[0]!r}: needs two or more to keep one out")
        count = min(max(1, round(share * len(names))), len(names) - 1)
        out = {names[i] for i in random.permutation(len(names))[:count]}
        chosen[:] = [name in out for name in whole]
    else:
        for key in sorted(set(keys)):
            members = np.flatnonzero([one == key for one in keys])
            chosen[random.permutation(members)[: min(round(share * len(members)), len(members) - 1)]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
