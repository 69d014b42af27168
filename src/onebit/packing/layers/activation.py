"""Activations, softmax, and layers that do nothing in use."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from onebit.nn import RPReLU
from onebit.packing.activations import ACTIVATIONS
from onebit.packing.handlers import LayerHandler, packs, packs_foreign
from onebit.packing.layers.norm import floats
from onebit.packing.recorder import Recorder


def _step_of(op: str) -> LayerHandler:
    return lambda r, name, layer, x: r.step(op, [x])


for _activation in ACTIVATIONS:
    _handler = _step_of(_activation.op)
    packs(*_activation.layers)(_handler)
    packs_foreign(*_activation.foreign)(_handler)


@packs(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
def _nothing(r: Recorder, name: str, layer: nn.Module, x: str) -> str:
    return x


@packs(nn.GELU)
def _gelu(r: Recorder, name: str, layer: nn.GELU, x: str) -> str:
    return gelu(r, x, layer.approximate)


def gelu(r: Recorder, x: str, approximate: str) -> str:
    """Record a GELU: exact ("none"), or by PyTorch's formula with a tanh."""
    if approximate == "none":
        return r.step("gelu", [x])
    # (1 + tanh u) / 2 is the sigmoid of 2 u, and u = sqrt(2 / pi) (x + 0.044715 x^3).
    cubed = r.step("multiply", [r.step("multiply", [x, x]), x])
    inner = r.step("add", [x, r.step("scale", [cubed], {"factor": 0.044715})])
    share = r.step("sigmoid", [r.step("scale", [inner], {"factor": math.sqrt(8 / math.pi)})])
    return r.step("multiply", [x, share])


@packs(nn.Hardtanh)  # and ReLU6, which derives from it
def _clip(r: Recorder, name: str, layer: nn.Hardtanh, x: str) -> str:
    return r.step("clip", [x], {"low": float(layer.min_val), "high": float(layer.max_val)})


@packs(nn.LeakyReLU)
def _leaky_relu(r: Recorder, name: str, layer: nn.LeakyReLU, x: str) -> str:
    slope = np.full(r.shape(x)[-1], layer.negative_slope, np.float32)
    return r.step("prelu", [x], slope=r.float_tensor(f"{r.unique()}.slope", slope, "the slope of a leaky ReLU"))


@packs(nn.PReLU)
def _prelu(r: Recorder, name: str, layer: nn.PReLU, x: str) -> str:
    slope = np.broadcast_to(floats(layer.weight), (r.shape(x)[-1],))
    return r.step("prelu", [x], slope=r.float_tensor(f"{name}.slope", slope, "learned slopes"))


@packs(RPReLU)
def _rprelu(r: Recorder, name: str, layer: RPReLU, x: str) -> str:
    ones, reason = np.ones(layer.slope.numel(), np.float32), "learned shifts"
    y = r.scale_shift(x, ones, -floats(layer.shift_in), f"{name}.in", reason)
    y = r.step("prelu", [y], slope=r.float_tensor(f"{name}.slope", layer.slope, "learned slopes"))
    return r.scale_shift(y, ones, floats(layer.shift_out), f"{name}.out", reason)


@packs(nn.Softmax)
def _softmax(r: Recorder, name: str, layer: nn.Softmax, x: str) -> str:
    if layer.dim not in (1, -1) or len(r.shape(x)) != 1:
        raise r.fail(f"Softmax(dim={layer.dim}) cannot be packed: use it on (batch, classes) with dim=1")
    return r.step("softmax", [x])
