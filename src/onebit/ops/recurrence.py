"""Float and binary LSTM and GRU, one time step after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from onebit.ops import binary
from onebit.ops.declared import Attribute, Bits, Boolean, Floats, Integer, Shape, Sizes
from onebit.ops.elementwise import sigmoid
from onebit.ops.normalize import EPS, normalized
from onebit.ops.op import Array, Attributes, Op, Precision, StepReader, Tensors

Product = Callable[[Array], Array]


@dataclass(frozen=True)
class Cell:
    """The computation of a recurrence in a time step.

    Args:
        gates: the number of gates.
        states: the number of state arrays. The first is the output.
        advance: a function from the contributions of the inputs and of the hidden state, (n, gates * hidden) each, and from the states, (n, hidden)
            each, to the next states.
        shifted: whether a float step adds a shift to the contribution of the hidden state.
    """

    gates: int
    states: int
    advance: Callable[..., tuple[Array, ...]]
    shifted: bool

    def recur(self, gates: Array, product: Product, reverse: bool = False) -> Array:
        """Run over time.

        Args:
            gates: the contribution of the inputs, (n, time, gates * hidden).
            product: a function from the hidden state (n, hidden) to its contribution to all gates.
            reverse: run from the last time step to the first.

        Returns:
            The hidden states (n, time, hidden).
        """
        n, time, width = gates.shape
        states: tuple[Array, ...] = tuple(np.zeros((n, width // self.gates), np.float32) for _ in range(self.states))
        y = np.empty((n, time, width // self.gates), np.float32)
        for t in reversed(range(time)) if reverse else range(time):
            states = self.advance(gates[:, t], product(states[0]), *states)
            y[:, t] = states[0]
        return y


def _lstm(x: Array, s: Array, h: Array, c: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(x + s, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def _gru(x: Array, s: Array, h: Array) -> tuple[Array]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(x, 3, axis=-1), np.split(s, 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    return ((1 - z) * np.tanh(x_n + r * h_n) + z * h,)


LSTM = Cell(4, 2, _lstm, shifted=False)
GRU = Cell(3, 1, _gru, shifted=True)


class Recurrence(Op):
    """A recurrence from the gates of the inputs, (time, gates * hidden), to the hidden states (time, hidden)."""

    attributes: tuple[Attribute, ...] = (Integer("hidden"), Boolean("reverse", optional=True))

    def __init__(self, name: str, cell: Cell) -> None:
        self.name, self.cell = name, cell
        self._outputs = f"{cell.gates} * hidden"
        shift = (Floats("shift", (self._outputs,)),) if cell.shifted else ()
        self.tensors = (Floats("weight", (self._outputs, "hidden")), *shift)

    def mixes_tokens(self, attributes: Attributes) -> str:
        reverse = attributes.get("reverse") is True
        return "reverse=true would read tokens that are still to come: leave it out" if reverse else ""

    def shape(self, step: StepReader, x: Shape) -> Shape:
        hidden = step["hidden"]
        outputs = self.cell.gates * hidden
        if len(x) != 2 or x[1] != outputs:
            raise step.fail(f"hidden={hidden} but its input has shape {x}: needs (time, {outputs})")
        return (x[0], hidden)

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {"hidden": attributes["hidden"], self._outputs: self.cell.gates * attributes["hidden"]}

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return self.cell.recur(x, self.product(a, t, precision), a.get("reverse", False))

    def product(self, a: Attributes, t: Tensors, precision: Precision) -> Product:
        """The contribution of the hidden states (n, hidden) to the gates."""
        return lambda h: (h @ t["weight"].T + t.get("shift", 0)).astype("float32")


class BitRecurrence(Recurrence):
    """A recurrence with bits as weights. A scale and a shift bring the sums into the range of the gates."""

    attributes = (*Recurrence.attributes, *binary.PRODUCT, replace(EPS, optional=True))

    def __init__(self, name: str, cell: Cell) -> None:
        super().__init__(name, cell)
        weight = Bits("weight", (self._outputs, "hidden"), planes=True)
        self.tensors = (weight, Floats("scale", (self._outputs,)), Floats("shift", (self._outputs,)))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        shape = super().shape(step, x)
        for name in ("reverse", "eps"):
            step.get(name)  # read here, and so checked before the sums
        binary.check_sums(step, step["hidden"])
        return shape

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        return {**super().sizes(attributes, x), "planes": len(binary.planes_of(attributes))}

    def product(self, a: Attributes, t: Tensors, precision: Precision) -> Product:
        shape = (self.cell.gates * a["hidden"], a["hidden"])
        weight = {"weight": t["weight"]}

        def scaled(h: Array) -> Array:
            sums = binary.product(a, weight, precision, h, shape, (h.ndim - 1,), lambda x, w: x @ w.T)
            if "eps" in a:
                sums = normalized(sums.reshape(len(h), -1, a["hidden"]), (2,), a["eps"]).reshape(sums.shape)
            return (sums * t["scale"] + t["shift"]).astype(np.float32)

        return scaled


OPS: tuple[Op, ...] = (
    Recurrence("lstm", LSTM),
    Recurrence("gru", GRU),
    BitRecurrence("bit_lstm", LSTM),
    BitRecurrence("bit_gru", GRU),
)
