"""The form of a kind of task, as evaluation, verification and pictures ask for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onebit.data.arrays import ArraySet, ArraySplits
from onebit.metrics import Metrics


class Kind(ABC):
    """One kind of task. `onebit.kinds.kinds.KINDS` lists them."""

    inputs: ClassVar[str]
    """What its inputs are in words, as in "recordings"."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of the files that count as data, in lower case; empty: all."""

    @abstractmethod
    def divided(self, data: str, task: Any, seed: int) -> ArraySplits:
        """The data with the classes of a trained network, divided as its training divided them; raises DataError.

        Args:
            data: a folder, a file or the name of a data set.
            task: of the network; it says all that the division hangs on, but for the seed.
            seed: of the training.
        """

    @abstractmethod
    def files(self, paths: Sequence[str], task: Any) -> ArraySet:
        """Single files as inputs; their targets mean nothing. Raises DataError."""

    @abstractmethod
    def metrics(self, task: Any) -> Metrics:
        """Takes outputs, and gives the figures."""

    @abstractmethod
    def told(self, figures: dict[str, Any]) -> list[str]:
        """The figures in words: what comes before "on 100 test recordings", and more lines."""

    @abstractmethod
    def draw(self, arrays: ArraySet, outputs: NDArray[np.float32], task: Any) -> Any:
        """A Matplotlib figure of a few inputs and what a network says of them."""
