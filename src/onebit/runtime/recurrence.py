"""LSTM and GRU in plain NumPy, one time step after the other, as docs/program.md defines them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Product = Callable[[Array], Array]


def recur(op: str, gates: Array, product: Product, reverse: bool) -> Array:
    """Run a recurrence over time.

    Args:
        op: "lstm" or "gru", or what is binary of them.
        gates: of the inputs (n, time, 4 * hidden) in the order i, f, g, o, or (n, time, 3 * hidden) in the order r, z, n.
        product: from the hidden state (n, hidden) to its part of all gates.
        reverse: from the last time step to the first.

    Returns:
        The hidden states (n, time, hidden).
    """
    lstm = op.endswith("lstm")
    n, time, width = gates.shape
    h = np.zeros((n, width // (4 if lstm else 3)), np.float32)
    c = np.zeros_like(h)
    y = np.empty((n, time, h.shape[1]), np.float32)
    for t in reversed(range(time)) if reverse else range(time):
        if lstm:
            i, f, g, o = np.split(gates[:, t] + product(h), 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(gates[:, t], 3, axis=-1), np.split(product(h), 3, axis=-1)
            r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
            h = (1 - z) * np.tanh(x_n + r * h_n) + z * h
        y[:, t] = h
    return y


def sigmoid(x: Array) -> Array:
    """`1 / (1 + e^-x)`."""
    return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)
