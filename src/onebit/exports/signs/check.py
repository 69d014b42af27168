"""Compare what another program computes of a network of signs with the engine, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.exports import Check
from onebit.exports.signs.network import SignNetwork
from onebit.fileformat import PackedModel

EXAMPLES = 32


def checked_pixels(network: SignNetwork, count: int = EXAMPLES) -> NDArray[np.uint8]:
    """Random pixels."""
    return np.random.default_rng(0).integers(0, 256, (count, *network.shape), np.uint8)


def compare(
    model: PackedModel, network: SignNetwork, pixels: NDArray[np.uint8], compute: Callable[[NDArray[Any]], NDArray[Any]]
) -> Check:
    """Compute the last sums from signs by `compute`, finish them as the file says, and compare them with the engine's outputs."""
    from onebit._engine import Engine

    expected = Engine(model.program.to_json(), model.tensors, "float32", 1).run(pixels)
    found = network.outputs(compute(network.signs(pixels)))
    return Check(len(pixels), expected.size, int((found != expected).sum()))
