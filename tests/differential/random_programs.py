"""Random programs over all ops of docs/program.md, with random tensors and inputs; needs NumPy and onebit.program only.

`make differential` runs them in the reference and in the engine, and `make fuzz` begins with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebit.ops.quantize import QUANTIZERS
from onebit.program import Program, Shape, Step, pack_rows

# Remainders of every width that kernels have: registers, words of bits, units of outputs.
SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 70, 96, 100, 128, 130, 192, 256, 320)
CHANNELS = (1, 2, 3, 4, 8, 16, 17, 31, 32, 48, 64, 70)
# Multiplications of one step: so many programs a second can be computed by NumPy.
MOST_WORK = 120_000
MOST_ELEMENTS = 6_000
INPUTS = [None, *({"quantizer": name} for name, widths in QUANTIZERS.items() if not widths)]
INPUTS += [{"quantizer": name, "bits": k} for name, widths in QUANTIZERS.items() for k in widths]
SCALINGS = (
    {"kind": "linear", "factor": 2.5},
    {"kind": "yarn", "factor": 4, "original_context": 16, "beta_fast": 32, "beta_slow": 1},
    {
        "kind": "yarn",
        "factor": 40,
        "original_context": 4096,
        "beta_fast": 2.5,
        "beta_slow": 0.1,
        "attention_factor": 0.7,
    },
    {"kind": "llama3", "factor": 8, "original_context": 32, "high_freq_factor": 4, "low_freq_factor": 1},
)
# What elementwise ops may be put anywhere.
ELEMENTWISE = ("clip", "gelu", "hard_sigmoid", "hard_swish", "prelu", "relu", "relu_squared", "scale", "scale_shift", "sigmoid", "silu",
               "softmax", "tanh", "normalize", "group_normalize", "rms_normalize",
               "add", "multiply", "mean_magnitude", "linear", "sparse_linear", "bit_linear")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A program with all that is needed to run it.

    Args:
        x: a batch (n, *input shape), uint8 or float32; of a program over tokens the tokens of one text, int32.
        precision: "int8" or "float32".
        threads: of the engine.
        cache: of keys and values: None for what the precision says, or "int8".
    """

    program: Program
    tensors: dict[str, Any]
    x: Any
    precision: str
    threads: int
    cache: str | None = None


class Maker:
    """Makes one program; `extreme` lets magnitudes grow to the ends of float32, `small` is for files of which thousands run in a second."""

    def __init__(self, seed: int, extreme: bool = False, small: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.small = small
        self.most_work, self.most_elements = (2_500, 300) if small else (MOST_WORK, MOST_ELEMENTS)
        self.extreme = extreme
        self.tensors: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.shapes: dict[str, Shape] = {}
        self.program = Program("x", (1,), (), "x")

    def any(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def one_in(self, n: int) -> bool:
        return int(self.rng.integers(n)) == 0

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def size(self, most: float = 320) -> int:
        return int(self.any([n for n in SIZES if n <= max(most, 1)]))

    # Tensors

    def floats(self, shape: Shape, around: float = 0.0, spread: float = 1.0) -> str:
        values = self.rng.standard_normal(shape) * spread + around
        if self.one_in(6):
            values *= self.rng.integers(0, 2, shape)
        if self.one_in(6):
            values = np.round(values * 4) / 4  # sums of these are exact, and lie on thresholds
        if self.extreme and self.one_in(4):
            values *= 10.0 ** self.rng.uniform(-30, 30, shape)
        return self.keep(np.clip(values, -3e38, 3e38).astype(np.float32))

    def bits(self, rows: int, n: int) -> str:
        way = self.between(0, 9)
        values = np.full((rows, n), way, np.uint8) if way < 2 else self.rng.integers(0, 2, (rows, n), np.uint8)
        return self.keep(pack_rows(values))

    def keep(self, tensor: Any) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = tensor
        return name

    # Steps

    def step(self, op: str, inputs: tuple[str, ...], attributes: dict[str, Any], **tensors: str) -> str:
        name = f"v{len(self.steps)}"
        made = Step(op, inputs, name, attributes, tensors)
        self.shapes[name] = self.program.step_shape(len(self.steps), made, self.shapes, self.tensors)
        self.steps.append(made)
        return name

    def binary(self, attributes: dict[str, Any], outputs: int, inputs: int) -> str:
        """The attributes of a layer of bits, filled in, and its weight."""
        attributes["values"] = self.any(("01", "pm1"))
        planes = [1]
        if self.one_in(3):
            count = self.any((1, 2, 2, 3, 4, 8))
            planes = (
                [1, 2, 4, 8, 16, 32, 64, 128][:count] if self.one_in(2) else [self.between(1, 31) for _ in range(count)]
            )
            attributes["planes"] = planes
        if self.one_in(2):
            kind = self.any(INPUTS)
            level = 1 << (kind.get("bits", 1) if kind else 8)
            if kind is not None and inputs * sum(planes) * level < 1 << 31:
                attributes["input"] = kind
        return self.bits(len(planes) * outputs, inputs)

    def grouped(self, attributes: dict[str, Any], outputs: int, inputs: int) -> str:
        """The attributes of a layer of bits with scales of groups, filled in but for `group`, and its weight."""
        attributes["values"] = self.any(("01", "pm1"))
        planes = self.any(([1], [1, 2], [1, 1], [1, 2, 4, 8], [3, 5, 7]))
        if planes != [1]:
            attributes["planes"] = planes
        if attributes["values"] == "01" and self.one_in(2):
            attributes["zero"] = self.any((1, 2, 7, 255))
        attributes["group"] = self.any([n for n in (32, 64, 128) if inputs % n == 0])
        return self.bits(len(planes) * outputs, inputs)

    def int8s(self, rows: int, inputs: int) -> str:
        return self.keep(self.rng.integers(-128, 128, (rows, inputs), np.int8))

    def scales(self, attributes: dict[str, Any], rows: int, inputs: int) -> str:
        """Scales of groups; where the attributes do not say, of some size or none."""
        sizes = [n for n in (32, 64, 128) if inputs % n == 0]
        if sizes and "group" not in attributes and self.one_in(2):
            attributes["group"] = self.any(sizes)
        values = self.rng.standard_normal((rows, inputs // attributes.get("group", inputs)))
        return self.keep((values * 0.5 ** self.between(0, 24)).astype(np.float16))

    def bias(self, outputs: int, bits: bool) -> dict[str, str]:
        if self.one_in(2):
            return {}
        return {"bias": self.bits(1, outputs) if bits else self.floats((outputs,))}

    def dense(self, x: str, bits: bool, outputs: int = 0) -> str:
        *rows, inputs = self.shapes[x]
        outputs = outputs or self.size(
            min(self.most_work / math.prod(rows) / inputs, self.most_elements / math.prod(rows))
        )
        attributes: dict[str, Any] = {"in_features": inputs, "out_features": outputs}
        if self.one_in(5):
            weight = self.int8s(outputs, inputs)
            return self.step(
                "int8_linear", (x,), attributes, weight=weight, scale=self.scales(attributes, outputs, inputs)
            )
        if bits and inputs % 32 == 0 and self.one_in(2):
            weight = self.grouped(attributes, outputs, inputs)
            scale = self.scales(attributes, outputs, inputs)
            return self.step("bit_linear", (x,), attributes, weight=weight, scale=scale, **self.bias(outputs, True))
        if bits:
            weight = self.binary(attributes, outputs, inputs)
            return self.step("bit_linear", (x,), attributes, weight=weight, **self.bias(outputs, True))
        weight = self.floats((outputs, inputs), spread=inputs**-0.5)
        return self.step("linear", (x,), attributes, weight=weight, **self.bias(outputs, False))

    def sparse(self, x: str) -> str:
        """A dense layer of floats with as many zeros as chance gives, at least one weight."""
        *rows, inputs = self.shapes[x]
        outputs = self.size(min(self.most_work / math.prod(rows) / inputs, self.most_elements / math.prod(rows)))
        places = self.rng.random((outputs, inputs)) < self.any((0.02, 0.2, 0.5, 1.0))
        places[self.between(0, outputs - 1), self.between(0, inputs - 1)] = True
        kept = int(places.sum())
        attributes = {"in_features": inputs, "out_features": outputs, "kept": kept}
        mask, weight = self.keep(pack_rows(places)), self.floats((kept,), spread=inputs**-0.5)
        return self.step("sparse_linear", (x,), attributes, mask=mask, weight=weight, **self.bias(outputs, False))

    def window(self, x: str, dilated: bool, pooling: bool) -> dict[str, Any]:
        """Attributes of a window that fits the image."""
        attributes: dict[str, Any] = {"kernel_size": [], "stride": [], "padding": []}
        dilation = []
        for side in self.shapes[x][:2]:
            d = self.any((1, 1, 1, 2, 3)) if dilated else 1
            padding = [0, 0] if self.one_in(2) else [self.between(0, 3), self.between(0, 3)]
            k = min(self.any((1, 2, 3, 3, 4, 5)), (side + sum(padding) - 1) // d + 1)
            if pooling:
                padding = [min(p, k - 1) for p in padding]
                k = min(k, side + sum(padding))
            attributes["kernel_size"].append(k)
            attributes["stride"].append(k if pooling and self.one_in(2) else self.any((1, 1, 1, 2, 3)))
            attributes["padding"] += padding
            dilation.append(d)
        if dilated:
            attributes["dilation"] = dilation
        return attributes

    def convolution(self, x: str, bits: bool) -> str:
        height, width, inputs = self.shapes[x]
        attributes = self.window(x, True, False)
        groups = self.any([g for g in (1, 1, 1, 1, 2, 3, 4, inputs) if inputs % g == 0])
        taps = math.prod(attributes["kernel_size"]) * inputs // groups
        positions = (height + 6) * (width + 6) / math.prod(attributes["stride"])
        outputs = groups * self.size(min(self.most_work / taps / positions, self.most_elements / positions / groups))
        attributes |= {"in_channels": inputs, "out_channels": outputs, "groups": groups}
        if bits:
            weight = self.binary(attributes, outputs, taps)
            return self.step("bit_conv2d", (x,), attributes, weight=weight, **self.bias(outputs, True))
        shape = (outputs, *attributes["kernel_size"], inputs // groups)
        return self.step(
            "conv2d", (x,), attributes, weight=self.floats(shape, spread=taps**-0.5), **self.bias(outputs, False)
        )

    def volume(self, x: str, bits: bool) -> str:
        *sides, inputs = self.shapes[x]
        attributes: dict[str, Any] = {"kernel_size": [], "stride": [], "padding": [], "dilation": []}
        for side in sides:
            d = self.any((1, 1, 1, 2))
            padding = [0, 0] if self.one_in(2) else [self.between(0, 2), self.between(0, 2)]
            attributes["kernel_size"].append(min(self.any((1, 2, 3, 3)), (side + sum(padding) - 1) // d + 1))
            attributes["stride"].append(self.any((1, 1, 2, 3)))
            attributes["padding"] += padding
            attributes["dilation"].append(d)
        groups = self.any([g for g in (1, 1, 1, 2, 4, inputs) if inputs % g == 0])
        taps = math.prod(attributes["kernel_size"]) * inputs // groups
        positions = math.prod(side + 4 for side in sides) / math.prod(attributes["stride"])
        outputs = groups * self.size(min(self.most_work / taps / positions, self.most_elements / positions / groups))
        attributes |= {"in_channels": inputs, "out_channels": outputs, "groups": groups}
        if bits:
            weight = self.binary(attributes, outputs, taps)
            return self.step("bit_conv3d", (x,), attributes, weight=weight, **self.bias(outputs, True))
        kd, kh, kw = attributes["kernel_size"]
        weight = self.floats((outputs, kd * kh, kw, inputs // groups), spread=taps**-0.5)
        return self.step("conv3d", (x,), attributes, weight=weight, **self.bias(outputs, False))

    def transposed(self, x: str, bits: bool) -> str:
        height, width, inputs = self.shapes[x]
        stride = [self.any((1, 2, 2, 3)) for _ in range(2)]
        kernel = [self.any((1, 2, 3, 4, 5)) for _ in range(2)]
        more = [self.between(0, s - 1) for s in stride]
        sides = [(side - 1) * s + k + m for side, s, k, m in zip((height, width), stride, kernel, more, strict=True)]
        padding = [0] * 4
        if self.one_in(2):
            padding = [self.between(0, (sides[axis] - 1) // 2) for axis in (0, 0, 1, 1)]
        groups = self.any([g for g in (1, 1, 1, 2, 3, inputs) if inputs % g == 0])
        taps = math.prod(kernel) * inputs // groups
        most = min(self.most_work / taps / height / width, self.most_elements / math.prod(sides))
        outputs = groups * self.size(most / groups)
        attributes: dict[str, Any] = {
            "in_channels": inputs,
            "out_channels": outputs,
            "kernel_size": kernel,
            "stride": stride,
        }
        attributes |= {"padding": padding, "output_padding": more, "groups": groups}
        if bits:
            weight = self.binary(attributes, outputs, taps)
            return self.step("bit_conv_transpose2d", (x,), attributes, weight=weight, **self.bias(outputs, True))
        weight = self.floats((outputs, *kernel, inputs // groups), spread=taps**-0.5)
        return self.step("conv_transpose2d", (x,), attributes, weight=weight, **self.bias(outputs, False))

    def slice(self, x: str, axis: int | None = None) -> str:
        shape = self.shapes[x]
        if axis is None:
            axis = self.between(1 if self.program.tokens else 0, len(shape) - 1)
        start = self.between(0, shape[axis] - 1)
        return self.step("slice", (x,), {"axis": axis, "start": start, "stop": self.between(start + 1, shape[axis])})

    def concatenate(self, x: str) -> str:
        axis = self.between(1 if self.program.tokens else 0, len(self.shapes[x]) - 1)
        other = self.slice(x, axis) if self.one_in(2) else self.same_shape(x)
        return self.step("concatenate", (x, other) if self.one_in(2) else (other, x), {"axis": axis})

    def reshape(self, x: str) -> str:
        left, shape = math.prod(self.shapes[x]), []
        for _ in range(self.between(0, 3)):
            shape.append(self.any([n for n in range(1, 9) if left % n == 0]))
            left //= shape[-1]
        shape.insert(self.between(0, len(shape)), left)
        return self.step("reshape", (x,), {"shape": shape})

    def resize(self, x: str) -> str:
        most = max(1, int((self.most_elements / self.shapes[x][2]) ** 0.5))
        attributes: dict[str, Any] = {"size": [self.between(1, min(most, 14)) for _ in range(2)]}
        attributes["mode"] = self.any(("nearest", "bilinear"))
        if attributes["mode"] == "bilinear" and self.one_in(2):
            attributes["align_corners"] = self.one_in(2)
        return self.step("resize", (x,), attributes)

    def full_attention(self, x: str) -> str:
        features = self.size(100)
        heads = self.any([h for h in range(1, 11) if features % h == 0])
        attributes = {"heads": heads}
        kept = features
        if self.one_in(2):
            attributes["kv_heads"] = self.any([h for h in range(1, heads + 1) if heads % h == 0])
            kept = features // heads * attributes["kv_heads"]
        source = self.slice(x, 0) if self.one_in(2) else x
        q = self.dense(x, self.one_in(2), features)
        k, v = (self.dense(source, self.one_in(2), kept) for _ in range(2))
        inputs, tensors = (q, k, v), {}
        if self.one_in(3):  # each other number of an input is 0 after this, and exact where the input is
            column = self.step("slice", (source,), {"axis": 1, "start": 0, "stop": 1})
            column = self.step("relu", (column,), {})
            inputs += (self.step("flatten", (column,), {"order": "hwc"}),)
        if self.shapes[source][0] == self.shapes[x][0]:
            if self.one_in(3):
                attributes["causal"] = self.one_in(2)
            if self.one_in(3) and heads * self.shapes[x][0] ** 2 <= self.most_elements:
                tensors["bias"] = self.floats((heads, self.shapes[x][0], self.shapes[x][0]))
        return self.step("full_attention", inputs, attributes, **tensors)

    def recurrence(self, x: str, op: str) -> str:
        time, _ = self.shapes[x]
        gates = 4 if op.endswith("lstm") else 3
        hidden = self.size(min((self.most_work / time / gates / 2) ** 0.5, 70))
        outputs = gates * hidden
        given = self.dense(x, self.one_in(2), outputs)
        if self.one_in(2):
            given = self.step(
                "scale_shift", (given,), {}, scale=self.floats((outputs,), spread=0.3), shift=self.floats((outputs,))
            )
        attributes: dict[str, Any] = {"hidden": hidden}
        if not self.program.tokens and self.one_in(2):
            attributes["reverse"] = self.one_in(2)
        tensors: dict[str, str] = {}
        if op.startswith("bit_"):
            tensors["weight"] = self.binary(attributes, outputs, hidden)
            if self.one_in(2):
                attributes["eps"] = self.any((1e-5, 1e-3, 0.5))
            tensors["scale"] = self.floats((outputs,), spread=0.3 if "eps" in attributes else 0.5 / hidden)
        else:
            tensors["weight"] = self.floats((outputs, hidden), spread=hidden**-0.5)
        if op != "lstm":
            tensors["shift"] = self.floats((outputs,))
        return self.step(op, (given,), attributes, **tensors)

    def attention(self, x: str) -> str:
        attributes: dict[str, Any] = {}
        if self.one_in(8):
            q = k = v = x
        else:
            features = self.size(100)
            q = self.dense(x, self.one_in(2), features)
            heads = self.any([h for h in range(1, 11) if features % h == 0])
            kept = features
            attributes["heads"] = heads
            if self.one_in(2):
                attributes["kv_heads"] = self.any([h for h in range(1, heads + 1) if heads % h == 0])
                kept = features // heads * attributes["kv_heads"]
            k, v = (self.dense(x, self.one_in(2), kept) for _ in range(2))
            if self.one_in(3):
                q, k = (self.rotary(y) for y in (q, k))
        if self.one_in(3):
            attributes["window"] = self.any((1, 2, 3, 7, 16, 64, 65, 1000))
        features = self.shapes[q][1]
        return self.step(
            "attention", (q, k, v), {"heads": self.any([h for h in range(1, 9) if features % h == 0]), **attributes}
        )

    def rotary(self, x: str) -> str:
        """A step of rotary positions, or the value itself where its features are odd."""
        features = self.shapes[x][1]
        if features % 2:
            return x
        heads = self.any([h for h in range(1, 9) if features % (2 * h) == 0])
        attributes: dict[str, Any] = {"heads": heads, "base": self.any((10_000, 500_000.0, 1.5))}
        if self.one_in(3):
            attributes["rotated"] = 2 * self.between(1, features // heads // 2)
        scaling = self.any((None, None, *SCALINGS))
        return self.step("rotary", (x,), attributes | ({"scaling": scaling} if scaling else {}))

    def same_shape(self, x: str) -> str:
        """Another value of this shape, or the same once more."""
        return str(self.any([name for name, shape in self.shapes.items() if shape == self.shapes[x]]))

    def multiply(self, x: str) -> str:
        if self.shapes[x][-1] > 1 and self.one_in(2):
            return self.step("multiply", (x, self.step(self.any(("argmax", "mean_magnitude")), (x,), {})), {})
        if len(self.shapes[x]) in (2, 3) and not self.program.tokens and self.one_in(2):
            return self.step("multiply", (x, self.step("mean_pool", (x,), {})), {})
        return self.step("multiply", (x, self.same_shape(x)), {})

    def eps(self) -> float:
        return float(self.any((1e-5, 1e-3, 0.1)))

    def apply(self, op: str, x: str) -> str:
        """A step of this op, and what it needs before it, whose input is x."""
        shape = self.shapes[x]
        channels, rows = shape[-1], self.any((1, 1, 2, 5))
        take: dict[str, Callable[[], str]] = {
            "add_constant": lambda: self.step(op, (x,), {}, constant=self.floats((math.prod(shape[:-1]), channels))),
            "bit_conv3d": lambda: self.volume(x, True),
            "conv3d": lambda: self.volume(x, False),
            "bit_conv_transpose2d": lambda: self.transposed(x, True),
            "concatenate": lambda: self.concatenate(x),
            "conv_transpose2d": lambda: self.transposed(x, False),
            "full_attention": lambda: self.full_attention(x),
            "prepend": lambda: self.step(op, (x,), {"rows": rows}, constant=self.floats((rows, channels))),
            "reshape": lambda: self.reshape(x),
            "resize": lambda: self.resize(x),
            "slice": lambda: self.slice(x),
            "transpose": lambda: self.step(op, (x,), {"axes": [int(axis) for axis in self.rng.permutation(len(shape))]}),
            "add": lambda: self.step("add", (x, self.same_shape(x)), {}),
            "attention": lambda: self.attention(x),
            "avg_pool2d": lambda: self.step(op, (x,), {**self.window(x, False, True), "count_include_pad": self.one_in(2)}),
            "bit_conv2d": lambda: self.convolution(x, True),
            "bit_linear": lambda: self.dense(x, True),
            "clip": lambda: self.step(op, (x,), self.any(({"low": -0.5, "high": 1}, {"low": 0, "high": 6.0}, {"low": -1, "high": 0.25}))),
            "conv2d": lambda: self.convolution(x, False),
            "exit": lambda: self.step(op, (x,), {"threshold": self.any((0.02, 0.1, 0.3, 0.6, 0.9, 1))}),
            "flatten": lambda: self.step(op, (x,), {"order": self.any(("hwc", "chw")) if len(shape) == 3 else "hwc"}),
            "group_normalize": lambda: self.step(
                op, (x,), {"groups": self.any([g for g in range(1, 9) if channels % g == 0]), "eps": self.eps()}
            ),
            "linear": lambda: self.dense(x, False),
            "sparse_linear": lambda: self.sparse(x),
            "max_pool2d": lambda: self.step(op, (x,), self.window(x, False, True)),
            "mean_magnitude": lambda: self.step(op, (x,), self.window(x, True, False) if len(shape) == 3 and self.one_in(2) else {}),
            "multiply": lambda: self.multiply(x),
            "normalize": lambda: self.step(
                op, (x,), {"over": "channel" if self.program.tokens else self.any(("channel", "example")), "eps": self.eps()}
            ),
            "prelu": lambda: self.step(op, (x,), {}, slope=self.floats((channels,), 0.2)),
            "rms_normalize": lambda: self.step(
                op, (x,), {"eps": self.eps()} | ({"groups": self.any([g for g in range(1, 9) if channels % g == 0])} if self.one_in(2) else {})
            ),
            "rotary": lambda: self.rotary(x),
            "scale": lambda: self.step(op, (x,), {"factor": self.any((0.125, 0.3, 1, 3.0))}),
            "scale_shift": lambda: self.step(
                op, (x,), {}, scale=self.floats((channels,), self.any((0.0, 1.0))),
                **({"shift": self.floats((channels,))} if self.one_in(2) else {}),
            ),
        }  # fmt: skip
        if op.endswith(("gru", "lstm")):
            return self.recurrence(x, op)
        return take[op]() if op in take else self.step(op, (x,), {})

    def allowed(self, x: str) -> list[str]:
        """The ops that take this value."""
        shape = self.shapes[x]
        ops = [*ELEMENTWISE, "bit_linear", "normalize"]
        if len(shape) > 3:
            ops.remove("group_normalize")
        if len(shape) == 2:
            ops += ["lstm", "gru"] + ["bit_lstm", "bit_gru"] * 3
        if len(shape) > 1:
            ops += ["concatenate", "slice"]
        if self.program.tokens:
            return [*ops, "attention", "attention", *(["rotary"] if shape[-1] % 2 == 0 else [])]
        if len(shape) == 2:
            ops += ["last", "prepend", "full_attention", "full_attention"]
        if len(shape) in (2, 3):
            ops += ["mean_pool"]
        if len(shape) == 3:
            ops += ["bit_conv2d"] * 5 + ["conv2d"] * 2 + ["max_pool2d"] * 2 + ["avg_pool2d", "mean_magnitude", "rows"]
            ops += ["bit_conv_transpose2d"] * 2 + ["conv_transpose2d", "resize"]
        if len(shape) == 4:
            ops += ["bit_conv3d"] * 8 + ["conv3d"] * 4
        if len(shape) == 1:
            ops += ["exit"] * 2
        return [*ops, "flatten", "reshape", "transpose", "add_constant"]

    def embed(self) -> str:
        rows, features, tables = self.between(2, 60), self.size(130), []
        for of in ("token", "position") if self.one_in(2) else ("token",):
            attributes: dict[str, Any] = {
                "rows": rows if of == "token" else self.shapes["x"][0] + self.between(0, 3),
                "features": features,
                "of": of,
            }
            if self.one_in(4):
                weight = self.int8s(attributes["rows"], features)
                scale = self.scales(attributes, attributes["rows"], features)
                tables.append(self.step("int8_embedding", ("x",), attributes, weight=weight, scale=scale))
                continue
            if features % 32 == 0 and self.one_in(3):
                weight = self.grouped(attributes, attributes["rows"], features)
                scale = self.scales(attributes, attributes["rows"], features)
                bias = self.bias(features, True)
                tables.append(self.step("bit_embedding", ("x",), attributes, weight=weight, scale=scale, **bias))
                continue
            if self.one_in(2):
                tables.append(
                    self.step("embedding", ("x",), attributes, weight=self.floats((attributes["rows"], features)))
                )
                continue
            attributes["values"] = self.any(("01", "pm1"))
            weight = self.bits(attributes["rows"], features)
            tables.append(self.step("bit_embedding", ("x",), attributes, weight=weight, **self.bias(features, True)))
        self.vocabulary = rows
        return tables[0] if len(tables) == 1 else self.step("add", tuple(tables), {})

    def make(self, kind: str | None = None) -> Case:
        """A program over "image", "rows", "vector", "blocks" (of four axes) or "tokens"."""
        kind = kind or self.any(("image",) * 5 + ("rows",) * 3 + ("vector", "blocks") + ("tokens",) * 4)
        most_side = 5 if self.small else 12
        shape: Shape = {
            "image": lambda: (self.between(1, most_side), self.between(1, most_side), self.any(CHANNELS)),
            "rows": lambda: (self.between(1, 20), self.size(130)),
            "vector": lambda: (self.size(),),
            "blocks": lambda: (self.between(1, 3), self.between(1, 4), self.between(1, 4), self.size(65)),
            "tokens": lambda: (self.any((1, 2, 5, 12, 20, 33, 70)),),
        }[kind]()  # fmt: skip
        self.program = Program("x", shape, (), "x", tokens=kind == "tokens")
        self.shapes = {"x": shape}
        x = self.embed() if kind == "tokens" else "x"
        for _ in range(self.any((1, 1, 2, 3, 4, 5, 6, 8))):
            x = self.apply(self.any(self.allowed(x)), x)
            if self.one_in(8):  # a branch
                x = str(self.any([name for name, s in self.shapes.items() if name != "x" or kind != "tokens"]))
        # An exit gives an output of the program's shape.
        misfits = [i for i, s in enumerate(self.steps) if s.op == "exit" and self.shapes[s.output] != self.shapes[x]]
        for place in misfits:
            self.steps[place] = replace(self.steps[place], op="relu", attributes={})
        # What makes an output of the last step seldom hides what is wrong before it.
        self.program = replace(self.program, steps=tuple(self.steps), output=x)
        precision = self.any(("int8", "float32"))
        cache = "int8" if kind == "tokens" and precision == "int8" and self.one_in(4) else None
        given = self.tokens() if kind == "tokens" else self.batch()
        return Case(self.program, self.tensors, given, precision, self.any((1, 1, 1, 2, 3)), cache)

    def tokens(self) -> Any:
        return self.rng.integers(0, self.vocabulary, self.between(1, self.shapes["x"][0])).astype(np.int32)

    def batch(self) -> Any:
        shape = (self.any((1, 2, 3)), *self.shapes["x"])
        if self.one_in(5):
            return self.rng.integers(0, 256, shape, np.uint8)
        x = self.rng.standard_normal(shape) * self.any((0.02, 1, 1, 1, 30))
        way = self.between(0, 11)
        if way == 0:
            x = np.abs(x)
        elif way == 1:
            x = np.round(x * 4) / 4
        elif way == 2:
            x *= self.rng.integers(0, 2, shape)
            x[self.rng.integers(0, 4, shape) == 0] = -0.0
        elif way == 3:
            x[:] = x.flat[0]
        elif way == 4:
            places = self.rng.integers(0, x.size, self.between(1, 3))
            x.flat[places] = self.rng.choice([np.nan, np.inf, -np.inf], len(places))
        if self.extreme and self.one_in(2):
            x *= 10.0 ** self.rng.uniform(-35, 35)
        with np.errstate(over="ignore"):
            return x.astype(np.float32)


def make(seed: int, extreme: bool = False, small: bool = False) -> Case:
    """The program of this seed: always the same."""
    return Maker(seed, extreme, small).make()
