"""Dense layers, binary and float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit.nn import BinaryLinear, BinaryTransposedLinear
from onebit.ops.sparse import sparse_bytes
from onebit.packing.handlers import packs
from onebit.packing.layers.binary import WHOLE, Product, binary_steps
from onebit.packing.recorder import Recorder

# Stored sparse where that saves at least so much: a few zeros by chance leave a layer what it is.
MOST_SPARSE_BYTES = 0.75


def dense_product(planes: Tensor) -> Product:
    """The op of a dense layer's bits, (planes, outputs, inputs)."""
    rows = planes.flatten(0, 1).flatten(1)  # plane after plane
    return Product("bit_linear", {"in_features": rows.shape[1], "out_features": planes.shape[1]}, rows)


@packs(BinaryLinear, BinaryTransposedLinear)
def _binary(r: Recorder, name: str, layer: BinaryLinear | BinaryTransposedLinear, x: str) -> str:
    return binary_steps(r, name, layer, x, dense_product)[0]


@packs(nn.Linear)
def _float(r: Recorder, name: str, layer: nn.Linear, x: str) -> str:
    values = layer.weight.detach().float().cpu().numpy()
    if np.count_nonzero(values) and sparse_bytes(values) <= MOST_SPARSE_BYTES * values.nbytes:
        return _sparse_step(r, name, x, values, layer.bias)
    return linear_step(r, name, x, layer.weight, layer.bias)


def _sparse_step(r: Recorder, name: str, x: str, weight: NDArray[np.float32], bias: Tensor | None) -> str:
    """Record a dense layer of floats of which most are 0: weight (outputs, inputs)."""
    ones = weight != 0  # NaN too, which float_tensor refuses
    attributes = {"in_features": weight.shape[1], "out_features": weight.shape[0], "kept": int(ones.sum())}
    tensors = float_tensors(r, name, weight[ones], bias, "a pruned float layer")
    return r.step("sparse_linear", [x], attributes, mask=r.mask_tensor(f"{name}.mask", ones), **tensors)


def linear_step(r: Recorder, name: str, x: str, weight: Tensor, bias: Tensor | None) -> str:
    """Record a dense layer of floats: weight (outputs, inputs), bias (outputs)."""
    attributes = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
    return r.step("linear", [x], attributes, **float_tensors(r, name, weight, bias))


def float_tensors(
    r: Recorder, name: str, weight: Tensor | NDArray[np.float32], bias: Tensor | None, reason: str = "a float layer"
) -> dict[str, str]:
    """Store the tensors of a float layer; returns their names by their roles."""
    tensors = {"weight": r.float_tensor(f"{name}.weight", weight, reason)}
    return tensors if bias is None else tensors | {"bias": r.float_tensor(f"{name}.bias", bias, reason)}


def transposed_steps(r: Recorder, name: str, layer: Any, x: str, parts: Sequence[slice] = WHOLE) -> list[str]:
    """Record a dense layer whose weight is stored as (inputs, outputs), binary or float, some of its outputs at a time."""
    if isinstance(layer, BinaryTransposedLinear):
        return binary_steps(r, name, layer, x, dense_product, parts=parts)
    names = [f"{name}.{number}" for number in range(len(parts))] if len(parts) > 1 else [name]
    return [
        linear_step(r, own, x, layer.weight.t()[part], layer.bias[part]) for own, part in zip(names, parts, strict=True)
    ]
