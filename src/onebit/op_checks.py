"""What each op of a program takes: its attributes, tensors and shapes, each checked. docs/program.md defines every op in words and formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import FormatError
from onebit.strict_json import excerpt

Shape = tuple[int, ...]
Tensors = Mapping[str, NDArray[Any]]

ROW_ALIGNMENT_BITS = 64
# No axis, attribute or value of a sensible model is larger; the cap keeps every product below far from 64 bits.
MAX_AXIS = 1 << 24
MAX_VALUE_ELEMENTS = 1 << 31
# An int32 holds the sum of 2^23 products of 8 bits; 2^22 leaves room for the shift of signed activations.
MAX_BINARY_ROW = 1 << 22
FLOAT32_MAX = float(np.finfo(np.float32).max)
# The sums of a binary layer whose inputs are whole numbers are 32-bit integers.
MAX_SUM = (1 << 31) - 1
MAX_PLANES = 8
MAX_PLANES_SUM = 255


def row_bytes(bits: int) -> int:
    """The bytes that a row of `bits` bits takes: padded to a multiple of 64 bits."""
    return -(-bits // ROW_ALIGNMENT_BITS) * (ROW_ALIGNMENT_BITS // 8)


class Reader:
    """Reads a step's attributes and tensors, each checked, and knows at the end whether any was left unread."""

    def __init__(self, where: str, attributes: Mapping[str, Any], roles: Mapping[str, str], tensors: Tensors) -> None:
        self.where = where
        self._attributes = attributes
        self._roles = roles
        self._tensors = tensors
        self._read: set[str] = set()
        self._read_roles: set[str] = set()

    def fail(self, message: str) -> FormatError:
        return FormatError(f"[{self.where}] {message}")

    def _attribute(self, name: str) -> Any:
        if name not in self._attributes:
            raise self.fail(f"lacks the attribute {name!r}")
        self._read.add(name)
        return self._attributes[name]

    def has(self, name: str) -> bool:
        return name in self._attributes

    def integer(self, name: str) -> int:
        return self.integers(name, None, 1)[0]

    def integers(self, name: str, count: int | None, least: int) -> list[int]:
        value = self._attribute(name)
        values = [value] if count is None else value
        whole = isinstance(values, list) and all(type(v) is int and least <= v <= MAX_AXIS for v in values)
        if not whole or len(values) != (count or 1):
            needed = "an integer" if count is None else f"a list of {count} integers"
            raise self.fail(f"{name}={excerpt(value)}: needs {needed} from {least} to {MAX_AXIS}")
        return values

    def number(self, name: str) -> float:
        value = self._attribute(name)
        # Engines compute in float32, in which a number that is too small is 0.
        if not _fits_float32(value) or np.float32(float(value)) <= 0:
            raise self.fail(f"{name}={excerpt(value)}: needs a finite number above 0")
        return float(value)

    def finite(self, name: str) -> float:
        value = self._attribute(name)
        if not _fits_float32(value):
            raise self.fail(f"{name}={excerpt(value)}: needs a finite number")
        return float(np.float32(float(value)))

    def boolean(self, name: str) -> bool:
        value = self._attribute(name)
        if type(value) is not bool:
            raise self.fail(f"{name}={excerpt(value)}: use true or false")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        value = self._attribute(name)
        if not isinstance(value, str) or value not in allowed:
            raise self.fail(f"{name}={excerpt(value)}: use {' or '.join(map(repr, allowed))}")
        return str(value)

    def planes(self) -> list[int]:
        """What the planes of a binary layer's weights count; [1] where the step does not say."""
        if not self.has("planes"):
            return [1]
        value = self._attribute("planes")
        whole = isinstance(value, list) and all(type(c) is int and c >= 1 for c in value)
        if not whole or not 1 <= len(value) <= MAX_PLANES or sum(value) > MAX_PLANES_SUM:
            raise self.fail(
                f"planes={excerpt(value)}: needs 1 to {MAX_PLANES} integers from 1 whose sum is at most {MAX_PLANES_SUM}"
            )
        return list(value)

    def largest_level(self) -> int:
        """The largest level that the attribute `input` quantises to; that of precision "int8" where the step does not say."""
        if not self.has("input"):
            return 255
        value = self._attribute("input")
        if not isinstance(value, dict) or value.get("quantizer") not in list(QUANTIZERS):
            raise self.fail(f"input={excerpt(value)}: needs a quantizer, one of {', '.join(map(repr, QUANTIZERS))}")
        widths = QUANTIZERS[value["quantizer"]]
        taken = {"quantizer", "bits"} if widths else {"quantizer"}
        if set(value) != taken:
            raise self.fail(f"input={excerpt(value)}: {value['quantizer']!r} takes {' and '.join(sorted(taken))}")
        if not widths:
            return 1
        if type(value["bits"]) is not int or value["bits"] not in widths:
            raise self.fail(f"input={excerpt(value)}: its bits are one of {', '.join(map(str, widths))}")
        return int((1 << value["bits"]) - 1 if value["quantizer"] == "unit" else (1 << (value["bits"] - 1)) - 1)

    def tensor(self, role: str, dtype: type[np.generic], shape: Shape, optional: bool = False) -> None:
        self._read_roles.add(role)
        if role not in self._roles:
            if optional:
                return
            raise self.fail(f"lacks its tensor {role!r}")
        name = self._roles[role]
        if name not in self._tensors:
            raise self.fail(f"its tensor {excerpt(name)} is not in the file")
        found = self._tensors[name]
        if found.dtype != dtype:
            raise self.fail(f"tensor {excerpt(name)} is {found.dtype}: needs {np.dtype(dtype)}")
        if found.shape != shape:
            raise self.fail(f"tensor {excerpt(name)} has shape {found.shape}: needs {shape}")

    def bits(self, role: str, rows: int, n: int, optional: bool = False) -> None:
        self.tensor(role, np.uint8, (rows, row_bytes(n)), optional)
        if role in self._roles:
            tail = self._tensors[self._roles[role]][:, n // 8 :]
            # Kernels read whole words: a stray bit beyond a row's end would be counted as a weight.
            if tail.size and (np.any(tail[:, 0] >> (n % 8)) or np.any(tail[:, 1:])):
                raise self.fail(
                    f"tensor {excerpt(self._roles[role])} has bits set beyond its {n} columns; the file is damaged"
                )

    def finish(self) -> None:
        extra = [name for name in self._attributes if name not in self._read]
        extra += [f"tensor {role}" for role in self._roles if role not in self._read_roles]
        if extra:
            raise self.fail(f"has what this op does not take: {', '.join(excerpt(name) for name in sorted(extra))}")


# The quantizers that a binary layer's `input` may name, and the bits that each may have.
QUANTIZERS: dict[str, tuple[int, ...]] = {"sign": (), "unit": tuple(range(1, 9)), "absmax": (8, 16)}


def _binary(r: Reader, outputs: int, inputs: int, bias: bool = True) -> None:
    """The bits of a layer whose every output sums over so many inputs."""
    if inputs > MAX_BINARY_ROW:
        raise r.fail(f"has rows of {inputs} weights: needs at most {MAX_BINARY_ROW}")
    r.choice("values", ("01", "pm1"))
    planes, level = r.planes(), r.largest_level()
    if (r.has("planes") or r.has("input")) and inputs * sum(planes) * level > MAX_SUM:
        raise r.fail(f"its sums over {inputs} inputs do not fit 32 bits: use fewer bits or smaller planes")
    r.bits("weight", len(planes) * outputs, inputs)
    if bias:
        r.bits("bias", 1, outputs, optional=True)


def _same(r: Reader, x: Shape) -> Shape:
    return x


def _scale_shift(r: Reader, x: Shape) -> Shape:
    channels = _last(r, x)
    r.tensor("scale", np.float32, (channels,))
    r.tensor("shift", np.float32, (channels,))
    return x


def _dense(r: Reader, x: Shape, binary: bool) -> Shape:
    inputs, outputs = r.integer("in_features"), r.integer("out_features")
    if _last(r, x) != inputs:
        raise r.fail(f"in_features={inputs} but its input has shape {x}")
    if binary:
        _binary(r, outputs, inputs)
    else:
        r.tensor("weight", np.float32, (outputs, inputs))
        r.tensor("bias", np.float32, (outputs,), optional=True)
    return (*x[:-1], outputs)


def _window(r: Reader, x: Shape, dilation: Sequence[int]) -> tuple[int, int]:
    """The (height, width) that a sliding window makes of an image."""
    kernel, stride = r.integers("kernel_size", 2, 1), r.integers("stride", 2, 1)
    top, bottom, left, right = r.integers("padding", 4, 0)
    if (x[0] + top + bottom) * (x[1] + left + right) * x[2] > MAX_VALUE_ELEMENTS:
        raise r.fail(f"its padded input has more than {MAX_VALUE_ELEMENTS} elements")
    sides = []
    for side, before, after, k, s, d in zip(x, (top, left), (bottom, right), kernel, stride, dilation, strict=False):
        free = side + before + after - d * (k - 1) - 1
        if free < 0:
            raise r.fail(
                f"a kernel of {kernel} with dilation {list(dilation)} does not fit its padded input of shape {x}"
            )
        sides.append(free // s + 1)
    return sides[0], sides[1]


def _convolution(r: Reader, x: Shape, binary: bool) -> Shape:
    inputs, outputs, groups = r.integer("in_channels"), r.integer("out_channels"), r.integer("groups")
    if len(x) != 3 or x[2] != inputs:
        raise r.fail(f"in_channels={inputs} but its input has shape {x}: needs (height, width, {inputs})")
    if inputs % groups or outputs % groups:
        raise r.fail(f"groups={groups} does not divide in_channels={inputs} and out_channels={outputs}")
    height, width = _window(r, x, r.integers("dilation", 2, 1))
    kh, kw = r.integers("kernel_size", 2, 1)
    if binary:
        _binary(r, outputs, kh * kw * (inputs // groups))
    else:
        r.tensor("weight", np.float32, (outputs, kh, kw, inputs // groups))
        r.tensor("bias", np.float32, (outputs,), optional=True)
    return (height, width, outputs)


def _normalize(r: Reader, x: Shape) -> Shape:
    r.choice("over", ("channel", "example"))
    r.number("eps")
    return x


def _image(r: Reader, x: Shape) -> None:
    if len(x) != 3:
        raise r.fail(f"its input has shape {x}: needs (height, width, channels)")


def _pool2d(r: Reader, x: Shape) -> Shape:
    _image(r, x)
    kernel, padding = r.integers("kernel_size", 2, 1), r.integers("padding", 4, 0)
    # A window that lies wholly in the padding would have no maximum and no mean.
    if max(padding[:2]) >= kernel[0] or max(padding[2:]) >= kernel[1]:
        raise r.fail(f"padding={padding} must be smaller than kernel_size={kernel}")
    return (*_window(r, x, (1, 1)), x[2])


def _avg_pool2d(r: Reader, x: Shape) -> Shape:
    r.boolean("count_include_pad")
    return _pool2d(r, x)


def _mean_pool(r: Reader, x: Shape) -> Shape:
    if len(x) not in (2, 3):
        raise r.fail(f"its input has shape {x}: needs (height, width, channels) or (time, channels)")
    return (x[-1],)


def _last_row(r: Reader, x: Shape) -> Shape:
    if len(x) != 2:
        raise r.fail(f"its input has shape {x}: needs (time, channels)")
    return (x[1],)


def _rows(r: Reader, x: Shape) -> Shape:
    _image(r, x)
    return (x[0], x[1] * x[2])


def _mean_magnitude(r: Reader, x: Shape) -> Shape:
    if not any(map(r.has, ("kernel_size", "stride", "padding", "dilation"))):
        return (*x[:-1], 1)
    _image(r, x)
    return (*_window(r, x, r.integers("dilation", 2, 1)), 1)


def _group_normalize(r: Reader, x: Shape) -> Shape:
    groups = r.integer("groups")
    r.number("eps")
    if len(x) > 3:
        raise r.fail(f"its input has shape {x}: needs (height, width, channels), (rows, features) or (features)")
    if _last(r, x) % groups:
        raise r.fail(f"groups={groups} does not divide its {x[-1]} channels")
    return x


def _clip(r: Reader, x: Shape) -> Shape:
    low, high = r.finite("low"), r.finite("high")
    if low >= high:
        raise r.fail(f"low={low!r} is not below high={high!r}")
    return x


def _prelu(r: Reader, x: Shape) -> Shape:
    r.tensor("slope", np.float32, (_last(r, x),))
    return x


def _multiply(r: Reader, x: Shape, y: Shape) -> Shape:
    if y not in (x, (*x[:-1], 1)):
        raise r.fail(f"its inputs have shapes {x} and {y}: needs equal ones, or 1 as the second's last axis")
    return x


def _add(r: Reader, x: Shape, y: Shape) -> Shape:
    if x != y:
        raise r.fail(f"its inputs have shapes {x} and {y}: needs equal ones")
    return x


def _attention(r: Reader, q: Shape, k: Shape, v: Shape) -> Shape:
    if not q == k == v:
        raise r.fail(f"its inputs have shapes {q}, {k} and {v}: needs equal ones")
    heads = r.integer("heads")
    if q[-1] % heads:
        raise r.fail(f"heads={heads} does not divide its {q[-1]} features")
    return q


def _recurrence(r: Reader, x: Shape, gates: int, binary: bool) -> Shape:
    hidden = r.integer("hidden")
    outputs = gates * hidden
    if len(x) != 2 or x[1] != outputs:
        raise r.fail(f"hidden={hidden} but its input has shape {x}: needs (time, {outputs})")
    if r.has("reverse"):
        r.boolean("reverse")
    if binary:
        if r.has("eps"):
            r.number("eps")
        _binary(r, outputs, hidden, bias=False)
        r.tensor("scale", np.float32, (outputs,))
    else:
        r.tensor("weight", np.float32, (outputs, hidden))
    if binary or gates == GRU_GATES:
        r.tensor("shift", np.float32, (outputs,))
    return (x[0], hidden)


def _embedding(r: Reader, x: Shape, binary: bool) -> Shape:
    rows, features = r.integer("rows"), r.integer("features")
    if r.choice("of", ("token", "position")) == "position" and rows < x[0]:
        raise r.fail(f"has {rows} rows for {x[0]} positions: needs one for each")
    if binary:
        r.choice("values", ("01", "pm1"))
        r.bits("weight", rows, features)
        r.bits("bias", 1, features, optional=True)
    else:
        r.tensor("weight", np.float32, (rows, features))
    return (x[0], features)


def _scale(r: Reader, x: Shape) -> Shape:
    r.number("factor")
    return x


def _flatten(r: Reader, x: Shape) -> Shape:
    if r.choice("order", ("hwc", "chw")) == "chw" and len(x) != 3:
        raise r.fail(f"order='chw' but its input has shape {x}: needs (height, width, channels)")
    return (math.prod(x),)


LSTM_GATES, GRU_GATES = 4, 3

# Each op: from its reader and its inputs' shapes to its output's shape, every attribute and tensor checked on the way.
OPS: dict[str, Callable[..., Shape]] = {
    "add": _add,
    "attention": _attention,
    "avg_pool2d": _avg_pool2d,
    "bit_conv2d": lambda r, x: _convolution(r, x, True),
    "bit_embedding": lambda r, x: _embedding(r, x, True),
    "bit_gru": lambda r, x: _recurrence(r, x, GRU_GATES, True),
    "bit_linear": lambda r, x: _dense(r, x, True),
    "bit_lstm": lambda r, x: _recurrence(r, x, LSTM_GATES, True),
    "clip": _clip,
    "conv2d": lambda r, x: _convolution(r, x, False),
    "embedding": lambda r, x: _embedding(r, x, False),
    "flatten": _flatten,
    "gelu": _same,
    "group_normalize": _group_normalize,
    "gru": lambda r, x: _recurrence(r, x, GRU_GATES, False),
    "last": _last_row,
    "linear": lambda r, x: _dense(r, x, False),
    "lstm": lambda r, x: _recurrence(r, x, LSTM_GATES, False),
    "max_pool2d": _pool2d,
    "mean_magnitude": _mean_magnitude,
    "mean_pool": _mean_pool,
    "multiply": _multiply,
    "normalize": _normalize,
    "prelu": _prelu,
    "relu": _same,
    "rows": _rows,
    "scale": _scale,
    "scale_shift": _scale_shift,
    "sigmoid": _same,
    "silu": _same,
    "softmax": _same,
    "tanh": _same,
}
INPUT_COUNTS = {"add": 2, "attention": 3, "multiply": 2}  # 1 where nothing is said
EMBEDDING_OPS = ("bit_embedding", "embedding")
RECURRENT_OPS = ("bit_gru", "bit_lstm", "gru", "lstm")
TOKEN_OPS = (
    *RECURRENT_OPS,
    "add",
    "attention",
    "bit_linear",
    "clip",
    "gelu",
    "group_normalize",
    "linear",
    "mean_magnitude",
    "multiply",
    "normalize",
    "prelu",
    "relu",
    "scale",
    "scale_shift",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
)


def _last(r: Reader, x: Shape) -> int:
    if not x:
        raise r.fail("its input has no axes")
    return x[-1]


def _fits_float32(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        # As float64, in which an engine reads it; false for NaN.
        return -FLOAT32_MAX <= float(value) <= FLOAT32_MAX
    except OverflowError:
        return False
