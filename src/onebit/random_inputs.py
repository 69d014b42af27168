"""Random inputs that a program takes, for measuring and for comparing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.program import Program

_MOST = 1 << 24  # integers without a table, of positions


def random_inputs(program: Program, count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """A batch for each input of a program over arrays, by name: numbers as float32, and integers below the rows of their embeddings."""
    random = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for source in program.inputs:
        shape = (count, *source.shape)
        if source.integers:
            rows = (
                s.attributes["rows"] for s in program.steps if source.name in s.inputs and s.attributes["of"] == "token"
            )
            made[source.name] = random.integers(0, min(rows, default=_MOST), shape)
        else:
            made[source.name] = random.standard_normal(shape).astype(np.float32)
    return made
