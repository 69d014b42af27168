"""What reaches from row to row: attention, rotary positions and recurrences. A recurrence is ONNX's `Scan` over the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from onebit.exports.onnx.elementwise import centred
from onebit.exports.onnx.graph import DOUBLE, FLOAT, Graph, Layer, Value
from onebit.exports.onnx.products import sums
from onebit.exports.onnx.weights import weight
from onebit.ops.recurrence import GRU, LSTM
from onebit.ops.rotary import frequencies


def _split(g: Graph, x: str, heads: int, size: int) -> str:
    """(n, time, features) to (n, heads, time, features / heads)."""
    return str(g.node("Transpose", [g.reshape(x, 0, 0, heads, size)], perm=[0, 2, 1, 3]))


def _shared(g: Graph, x: str, heads: int, times: int, size: int) -> str:
    """Each head of keys or values, as often as queries share it."""
    if times == 1:
        return x
    wide = g.node("Unsqueeze", [x, g.int64s(2)])
    copies = g.node("Concat", [wide] * times, axis=2)  # (n, heads, times, time, size)
    length = g.node("Shape", [x], start=2, end=3)
    shape = g.node("Concat", [g.int64s(0, heads * times), length, g.int64s(size)], axis=0)
    return str(g.node("Reshape", [copies, shape]))


def _attention(g: Graph, layer: Layer) -> Value:
    a = layer.attributes
    heads, features = a["heads"], layer.shape[-1]
    kept, size = a.get("kv_heads", heads), features // heads
    q, k, v = (g.last(x) for x in layer.inputs)
    q = _split(g, q, heads, size)
    k, v = (_shared(g, _split(g, x, kept, size), kept, heads // kept, size) for x in (k, v))
    scores = g.node("MatMul", [q, g.node("Transpose", [k], perm=[0, 1, 3, 2])])
    scores = g.node("Div", [scores, g.constant(math.sqrt(size))])
    if layer.step.op == "attention":
        scores = g.node("Where", [_seen(g, q, a.get("window")), scores, g.constant(-np.inf)])
    taken = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), v])
    return Value(layer.shape, g.reshape(g.node("Transpose", [taken], perm=[0, 2, 1, 3]), 0, 0, features))


def _seen(g: Graph, q: str, window: int | None) -> str:
    """Which tokens (columns) each token (rows) attends to."""

    def make() -> str:
        time = g.node("Shape", [q], start=2, end=3)
        ones = g.node("Expand", [g.constant(1), g.node("Concat", [time, time], axis=0)])
        seen = g.node("Trilu", [ones], upper=0)
        if window is not None:
            seen = g.node("Trilu", [seen, g.constant(1 - window, np.int64)], upper=1)
        return g.cast(seen, 9)

    return g.once(("seen", window), make)


def _tables(g: Graph, layer: Layer, rotated: int) -> tuple[str, str]:
    """Cosines and sines of the positions, (time, 1, rotated / 2). The angles are reduced in float64."""
    a, x = layer.attributes, g.last(layer.inputs[0])
    turns, factor = frequencies(a, rotated)

    def make() -> str:
        time = g.node("Squeeze", [g.node("Shape", [x], start=1, end=2)])
        places = g.cast(g.node("Range", [g.constant(0, np.int64), time, g.constant(1, np.int64)]), DOUBLE)
        angles = g.node("Mul", [g.reshape(places, -1, 1, 1), g.constant(turns.astype(np.float64), np.float64)])
        reduced = g.node("Mod", [angles, g.constant(2 * math.pi, np.float64)], fmod=1)
        return g.cast(reduced, FLOAT)

    key = (rotated, turns.tobytes(), float(factor))
    angles = g.once(("angles", *key), make)

    def table(op: str) -> str:
        return g.once((op, *key), lambda: g.node("Mul", [g.node(op, [angles]), g.constant(factor)]))

    return table("Cos"), table("Sin")


def _rotary(g: Graph, layer: Layer) -> Value:
    a, features = layer.attributes, layer.shape[-1]
    size = features // a["heads"]
    rotated = a.get("rotated", size)
    x = g.reshape(g.last(layer.inputs[0]), 0, 0, a["heads"], size)
    cosine, sine = _tables(g, layer, rotated)
    half = rotated // 2
    lengths = [half, half] + ([size - rotated] if size > rotated else [])
    first, second, *rest = g.node("Split", [x, g.int64s(*lengths)], len(lengths), axis=3)

    def turned(op: str, one: str, other: str) -> str:
        return str(g.node(op, [g.node("Mul", [one, cosine]), g.node("Mul", [other, sine])]))

    parts = [turned("Sub", first, second), turned("Add", second, first), *rest]
    return Value(layer.shape, g.reshape(g.node("Concat", parts, axis=3), 0, 0, features))


# Recurrences


def _lstm(g: Graph, x: str, s: str, states: list[str], hidden: int) -> list[str]:
    i, f, o_in, o = g.node("Split", [g.node("Add", [x, s]), g.int64s(*[hidden] * 4)], 4, axis=1)
    kept = g.node("Mul", [g.node("Sigmoid", [f]), states[1]])
    cell = g.node("Add", [kept, g.node("Mul", [g.node("Sigmoid", [i]), g.node("Tanh", [o_in])])])
    return [g.node("Mul", [g.node("Sigmoid", [o]), g.node("Tanh", [cell])]), cell]


def _gru(g: Graph, x: str, s: str, states: list[str], hidden: int) -> list[str]:
    lengths = g.int64s(hidden, hidden, hidden)
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (
        g.node("Split", [x, lengths], 3, axis=1),
        g.node("Split", [s, lengths], 3, axis=1),
    )
    r, z = (g.node("Sigmoid", [g.node("Add", pair)]) for pair in ((x_r, h_r), (x_z, h_z)))
    new = g.node("Tanh", [g.node("Add", [x_n, g.node("Mul", [r, h_n])])])
    share = g.node("Mul", [g.node("Sub", [g.constant(1), z]), new])
    return [g.node("Add", [share, g.node("Mul", [z, states[0]])])]


def _product(g: Graph, layer: Layer) -> Callable[[Graph, str], str]:
    """What the hidden state gives to the gates, as a function of the graph of the loop's body and of the state."""
    a, t = layer.attributes, layer.tensors
    hidden, outputs = a["hidden"], layer.inputs[0].shape[-1]
    if not layer.step.op.startswith("bit_"):
        matrix, shift = g.constant(t["weight"].T), t.get("shift")

        def plain(body: Graph, h: str) -> str:
            s = body.node("MatMul", [h, matrix])
            return str(s if shift is None else body.node("Add", [s, body.constant(shift)]))

        return plain
    matrix = weight(g, a, t["weight"], (outputs, hidden), (1, 0))

    def of_bits(body: Graph, h: str) -> str:
        s = sums(body, layer, h, hidden, (-1,), lambda part: body.node("MatMul", [part, matrix]))
        if "eps" in a:
            gates = centred(body, body.reshape(s, 0, outputs // hidden, hidden), (2,), a["eps"])
            s = body.reshape(gates, 0, outputs)
        scaled = body.node("Mul", [s, body.constant(t["scale"])])
        return str(body.node("Add", [scaled, body.constant(t["shift"])]))

    return of_bits


def _recurrence(g: Graph, layer: Layer) -> Value:
    a, x = layer.attributes, g.last(layer.inputs[0])
    hidden = a["hidden"]
    cell, advance = (LSTM, _lstm) if layer.step.op.endswith("lstm") else (GRU, _gru)
    product = _product(g, layer)
    body = g.inside()
    before, row = [body.name() for _ in range(cell.states)], body.name()
    after = advance(body, row, product(body, before[0]), before, hidden)
    # The output of the row is another name of the first state.
    output = body.node("Identity", [after[0]])

    def info(name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, FLOAT, ["batch", width])

    loop = helper.make_graph(
        body.nodes,
        "step",
        [*(info(name, hidden) for name in before), info(row, cell.gates * hidden)],
        [*(info(name, hidden) for name in after), info(output, hidden)],
    )
    shape = g.node("Concat", [g.node("Shape", [x], start=0, end=1), g.int64s(hidden)], axis=0)
    zeros = g.node("Expand", [g.constant(0), shape])
    way = int(a.get("reverse", False))
    _, *rest = g.node(
        "Scan",
        [*[zeros] * cell.states, x],
        cell.states + 1,
        body=loop,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
        scan_input_directions=[way],
        scan_output_directions=[way],
    )
    return Value(layer.shape, rest[-1])


WRITERS: dict[str, Callable[[Graph, Layer], Value]] = {
    "attention": _attention,
    "full_attention": _attention,
    "rotary": _rotary,
    **dict.fromkeys(("lstm", "gru", "bit_lstm", "bit_gru"), _recurrence),
}
