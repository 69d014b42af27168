"""What each layer of larq and Keras becomes: steps of a program. Quantizers are those of larq 0.13."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.importing.keras.reading import KerasLayer
from onebit.program import Program, Shape, Step, pack_rows

# Names of quantizers that give the sign of a number, and +1 for 0. They differ in their gradients.
SIGNS = frozenset(("ste_sign", "approx_sign", "swish_sign", "magnitude_aware_sign"))
ACTIVATIONS = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
}
# Layers that do nothing once a network is trained.
NOTHING = ("Dropout", "SpatialDropout2D", "GaussianNoise", "ActivityRegularization")


class Unknown(Exception):
    """A layer, or an option of one, that has no steps."""


class Chain:
    """The steps of a model, layer after layer."""

    def __init__(self, shape: Shape) -> None:
        self.steps: list[Step] = []
        self.tensors: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {"input": shape}
        self.program = Program("input", shape, (), "input")

    def step(self, op: str, inputs: tuple[str, ...], attributes: dict[str, Any], name: str = "", **tensors: Any) -> str:
        """Add a step; `tensors` are called after the layer."""
        names = {role: f"{name}.{role}" for role in tensors}
        for role, tensor in tensors.items():
            if names[role] in self.tensors:
                names[role] = f"{name}.{len(self.steps)}.{role}"
            self.tensors[names[role]] = np.ascontiguousarray(tensor)
        made = Step(op, inputs, f"v{len(self.steps)}", attributes, names)
        self.shapes[made.output] = self.program.step_shape(len(self.steps), made, self.shapes, self.tensors)
        self.steps.append(made)
        return made.output

    def scaled(self, x: str, name: str, scale: Any, shift: Any = None) -> str:
        tensors = {"scale": np.asarray(scale, np.float32)}
        if shift is not None:
            tensors["shift"] = np.asarray(shift, np.float32)
        return self.step("scale_shift", (x,), {}, name, **tensors)


def quantizer_of(value: Any) -> tuple[str, dict[str, Any]]:
    """The name of a quantizer, as in `ste_sign`, and its options; an empty name for none."""
    if value is None:
        return "", {}
    name, options = (value["class_name"], value.get("config") or {}) if isinstance(value, dict) else (value, {})
    name = str(name).rpartition(">")[2]
    snake = "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
    return {"do_re_fa": "dorefa_quantizer", "do_re_fa_quantizer": "dorefa_quantizer"}.get(snake, snake), options


def input_levels(layer: KerasLayer) -> dict[str, Any]:
    """The attribute `input` of a layer's inputs; empty if they are not quantised."""
    name, options = quantizer_of(layer.config.get("input_quantizer"))
    if not name:
        return {}
    if name in SIGNS and name != "magnitude_aware_sign":
        return {"input": {"quantizer": "sign"}}
    if name == "dorefa_quantizer" and options.get("mode", "activations") == "activations":
        return {"input": {"quantizer": "unit", "bits": int(options.get("k_bit", 2))}}
    raise Unknown(f"input_quantizer={name}")


def levels(
    layer: KerasLayer, kernel: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32] | None] | None:
    """A quantised kernel (..., outputs) as -1, 0 and 1, and the scale of each output; None if it stays float."""
    name, options = quantizer_of(layer.config.get("kernel_quantizer"))
    if not name:
        return None
    if name in SIGNS:
        signs = np.where(kernel >= 0, 1, -1).astype(np.int8)
        over = tuple(range(kernel.ndim - 1))
        return signs, np.abs(kernel).mean(over) if name == "magnitude_aware_sign" else None
    if name == "ste_tern":
        threshold = options.get("threshold_value", 0.05)
        if options.get("ternary_weight_networks", False):
            threshold = 0.7 * np.abs(kernel).sum() / kernel.size
        return np.sign(np.sign(kernel + threshold) + np.sign(kernel - threshold)).astype(np.int8), None
    raise Unknown(f"kernel_quantizer={name}")


def padding_of(config: dict[str, Any], x: Shape, kernel: Any, dilation: Any = (1, 1)) -> list[int]:
    """Rows and columns of padding: top, bottom, left, right."""
    way = config.get("padding", "valid")
    if way == "valid":
        return [0, 0, 0, 0]
    if way != "same":
        raise Unknown(f"padding={way}")
    sides: list[int] = []
    for side, k, stride, d in zip(x, kernel, _pair(config.get("strides") or kernel), dilation, strict=False):
        total = max((math.ceil(side / stride) - 1) * stride + d * (k - 1) + 1 - side, 0)
        sides += [total // 2, total - total // 2]
    return sides


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _plain(layer: KerasLayer, **usual: Any) -> None:
    """Refuse options that are not as usual."""
    for name, value in {"data_format": ("channels_last", None), **usual}.items():
        given = layer.config.get(name, value[0])
        if given not in value:
            raise Unknown(f"{name}={given}")


def dense(c: Chain, layer: KerasLayer, x: str) -> str:
    kernel, *bias = layer.weights
    inputs, outputs = kernel.shape
    given: dict[str, Any] = {"in_features": inputs, "out_features": outputs}
    return _product(c, layer, x, "linear", given, kernel, lambda w: w.T, bias)


def conv(c: Chain, layer: KerasLayer, x: str) -> str:
    _plain(layer)
    kernel, *bias = layer.weights
    kh, kw, inputs, outputs = kernel.shape
    dilation = _pair(layer.config.get("dilation_rate", 1))
    padding = padding_of(layer.config, c.shapes[x], (kh, kw), dilation)
    if any(padding) and layer.config.get("pad_values", 0) != 0:
        raise Unknown(f"padding=same with pad_values={layer.config['pad_values']}: only 0 is known")
    given: dict[str, Any] = {
        "in_channels": inputs * int(layer.config.get("groups", 1)),
        "out_channels": outputs,
        "kernel_size": [kh, kw],
    }
    given |= {
        "stride": _pair(layer.config["strides"]),
        "padding": padding,
        "dilation": dilation,
        "groups": int(layer.config.get("groups", 1)),
    }
    return _product(c, layer, x, "conv2d", given, kernel, lambda w: w.transpose(3, 0, 1, 2), bias)


def _product(
    c: Chain,
    layer: KerasLayer,
    x: str,
    op: str,
    given: dict[str, Any],
    kernel: Any,
    turned: Callable[[Any], Any],
    bias: list[Any],
) -> str:
    """A product with a kernel of bits or of floats, its bias and its activation. `turned` puts the outputs first."""
    quantised, inputs = levels(layer, kernel), input_levels(layer)
    if quantised is None:
        if inputs:
            raise Unknown("quantised inputs with a kernel of floats")
        tensors = {"weight": turned(kernel)} | ({"bias": bias[0]} if bias else {})
        y = c.step(op, (x,), given, layer.name, **tensors)
    else:
        numbers, scale = quantised
        rows = turned(numbers).reshape(given.get("out_features") or given["out_channels"], -1)
        given |= {"values": "pm1", **inputs}
        if (rows == 0).any():
            # Two bits for each weight: both 1, both 0, or one of each, and half of their sum.
            given["planes"] = [1, 1]
            rows = np.concatenate([rows >= 0, rows > 0])
            scale = np.full(kernel.shape[-1], 0.5, np.float32)
        y = c.step(f"bit_{op}", (x,), given, layer.name, weight=pack_rows(rows > 0))
        if scale is not None or bias:
            y = c.scaled(
                y, layer.name, np.ones(kernel.shape[-1]) if scale is None else scale, bias[0] if bias else None
            )
    return activated(c, layer, y)


def activated(c: Chain, layer: KerasLayer, x: str) -> str:
    given = layer.config.get("activation", "linear")
    name = given if isinstance(given, str) else (given or {}).get("config", {}).get("name", "")
    if name in ("linear", "") or given is None:
        return x
    if name not in ACTIVATIONS:
        raise Unknown(f"activation={name}")
    return c.step(ACTIVATIONS[name], (x,), {})


def batch_norm(c: Chain, layer: KerasLayer, x: str) -> str:
    parts = list(layer.weights)
    channels = c.shapes[x][-1]
    axis = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) else axis
    if axis not in (-1, len(c.shapes[x])):
        raise Unknown(f"axis={axis}")
    gamma = parts.pop(0) if layer.config.get("scale", True) else np.ones(channels, np.float32)
    beta = parts.pop(0) if layer.config.get("center", True) else np.zeros(channels, np.float32)
    mean, variance = parts
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + layer.config.get("epsilon", 1e-3))
    return c.scaled(x, layer.name, scale, beta - mean * scale)


def pool(c: Chain, layer: KerasLayer, x: str) -> str:
    _plain(layer)
    kernel = _pair(layer.config["pool_size"])
    given = {
        "kernel_size": kernel,
        "stride": _pair(layer.config.get("strides") or kernel),
        "padding": padding_of(layer.config, c.shapes[x], kernel),
    }
    if layer.kind == "AveragePooling2D":
        return c.step("avg_pool2d", (x,), given | {"count_include_pad": False})
    return c.step("max_pool2d", (x,), given)


def relu(c: Chain, layer: KerasLayer, x: str) -> str:
    _plain(layer, negative_slope=(0, None, [0.0]), threshold=(0, None, [0.0]))
    most = layer.config.get("max_value")
    return c.step("relu", (x,), {}) if most is None else c.step("clip", (x,), {"low": 0.0, "high": float(most)})


def global_mean(c: Chain, layer: KerasLayer, x: str) -> str:
    _plain(layer, keepdims=(False, None))
    return c.step("mean_pool", (x,), {})


WRITERS: dict[str, Callable[[Chain, KerasLayer, str], str]] = {
    "QuantDense": dense,
    "Dense": dense,
    "QuantConv2D": conv,
    "Conv2D": conv,
    "BatchNormalization": batch_norm,
    "MaxPooling2D": pool,
    "AveragePooling2D": pool,
    "GlobalAveragePooling2D": global_mean,
    "Activation": activated,
    "ReLU": relu,
    "Softmax": lambda c, layer, x: c.step("softmax", (x,), {}),
    "Flatten": lambda c, layer, x: x if len(c.shapes[x]) == 1 else c.step("flatten", (x,), {"order": "hwc"}),
    **dict.fromkeys(NOTHING, lambda c, layer, x: x),
}
