"""Recurrent layers, binary and float: the gates of the inputs for all steps at once, then the recurrence."""

from __future__ import annotations

from typing import Any

from torch import nn

from onebit.nn import BinaryGRU, BinaryLSTM, BinaryRecurrence, ImageRows
from onebit.packing.handlers import pack_layer, packs
from onebit.packing.layers.dense import linear_step
from onebit.packing.layers.norm import groups_of_rows
from onebit.packing.recorder import Recorder
from onebit.quantizers import VALUES, weight_planes

# Layers that give (output, state), of which a program has the output only.
RECURRENT: tuple[type[nn.Module], ...] = (BinaryLSTM, BinaryGRU, nn.LSTM, nn.GRU)


@packs(ImageRows)
def _image_rows(r: Recorder, name: str, layer: ImageRows, x: str) -> str:
    return r.step("rows", [x])


@packs(BinaryLSTM, BinaryGRU)
def _binary(r: Recorder, name: str, layer: BinaryLSTM | BinaryGRU, x: str) -> str:
    _check(r, layer)
    directions = 2 if layer.bidirectional else 1
    for first in range(0, len(layer.layers), directions):
        made = []
        for index in range(first, first + directions):
            part: Any = layer.layers[index]
            made.append(_recurrence(r, f"{name}.layers.{index}", part, x, reverse=index > first))
        x = _together(r, made)
    return x


def _together(r: Recorder, directions: list[str]) -> str:
    """The outputs of the directions of a layer, side by side."""
    first, *rest = directions
    return r.step("concatenate", [first, *rest], {"axis": 1}) if rest else first


def _check(r: Recorder, layer: BinaryLSTM | BinaryGRU | nn.LSTM | nn.GRU) -> None:
    kind = type(layer).__name__
    if layer.bidirectional and r.tokens:
        raise r.fail(f"a bidirectional {kind} over tokens would read those that are still to come: use one direction")
    if not layer.batch_first:
        raise r.fail(f"{kind} with batch_first=False cannot be packed: use batch_first=True")


@packs(BinaryRecurrence)
def _recurrence(r: Recorder, name: str, part: BinaryRecurrence, x: str, reverse: bool = False) -> str:
    x = pack_layer(r, f"{name}.inputs", part.inputs, x)
    if part.input_norm is not None:
        x = groups_of_rows(r, f"{name}.input_norm", part.input_norm, x)
    quantizer, weights = part.quantizer, part.scheme.weights
    bits = part.bits().weight.flatten(0, 1) if len(weights.planes) > 1 else part.bits().weight  # plane after plane
    attributes: dict[str, Any] = {"hidden": part.hidden_size, "values": VALUES[weights.values]}
    if len(weights.planes) > 1:
        attributes["planes"] = list(weights.planes)
    if quantizer is not None:
        attributes["input"] = quantizer.describe()
    if part.normalized:
        attributes["eps"] = part.scheme.eps
    if reverse:
        attributes["reverse"] = True
    affine = part.affine(weight_planes(weights, part.weight)[1])
    reason = "scales and shifts of the recurrent sums"
    return r.step(
        f"bit_{part.kind}",
        [x],
        attributes,
        weight=r.bit_tensor(f"{name}.weight", part.weight, bits),
        scale=r.float_tensor(f"{name}.scale", affine.scale, reason),
        shift=r.float_tensor(f"{name}.shift", affine.shift, reason),
    )


@packs(nn.LSTM, nn.GRU)
def _float(r: Recorder, name: str, layer: nn.LSTM | nn.GRU, x: str) -> str:
    _check(r, layer)
    if layer.proj_size:
        raise r.fail("LSTM with proj_size cannot be packed: put a linear layer after it")
    directions = 2 if layer.bidirectional else 1
    for first in range(0, len(layer.all_weights), directions):
        parts = range(first, first + directions)
        x = _together(r, [_float_direction(r, name, layer, index, x, reverse=index > first) for index in parts])
    return x


def _float_direction(r: Recorder, name: str, layer: nn.LSTM | nn.GRU, index: int, x: str, reverse: bool) -> str:
    """One layer in one direction, `index` in the order of PyTorch's weights."""
    kind, part = "lstm" if isinstance(layer, nn.LSTM) else "gru", f"{name}.layers.{index}"
    inputs, recurrent, *biases = layer.all_weights[index]
    zeros = inputs.new_zeros(len(inputs))
    input_bias, own_bias = biases or (zeros, zeros)
    shift = {"shift": own_bias}
    if kind == "lstm":
        input_bias, shift = input_bias + own_bias, {}  # the sums of both halves are added
    x = linear_step(r, f"{part}.inputs", x, inputs, input_bias)
    tensors = {"weight": recurrent, **shift}
    names = {role: r.float_tensor(f"{part}.{role}", tensor, "a float layer") for role, tensor in tensors.items()}
    attributes: dict[str, Any] = {"hidden": layer.hidden_size}
    if reverse:
        attributes["reverse"] = True
    return r.step(kind, [x], attributes, **names)
