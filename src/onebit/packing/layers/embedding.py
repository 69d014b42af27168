"""Embeddings of tokens and of positions, binary and float."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from onebit.nn import BinaryEmbedding, TokenPositionEmbedding
from onebit.packing.handlers import packs
from onebit.packing.layers.binary import with_gain
from onebit.packing.layers.norm import floats, normalized, scaled
from onebit.packing.recorder import Recorder
from onebit.quantizers import VALUES, threshold_bits, weight_planes


@packs(TokenPositionEmbedding)
def _token_position(r: Recorder, name: str, layer: TokenPositionEmbedding, x: str) -> str:
    tokens = embedding(r, f"{name}.tokens", layer.tokens, x)
    if layer.positions is None:
        return tokens
    return r.step("add", [tokens, embedding(r, f"{name}.positions", layer.positions, x, "position")])


@packs(nn.Embedding, BinaryEmbedding)
def embedding(r: Recorder, name: str, layer: nn.Module, x: str, of: Literal["token", "position"] = "token") -> str:
    """Record the rows of a table for the tokens `x`, or for their positions."""
    if not isinstance(layer, nn.Embedding):
        raise r.fail(
            f"an embedding of type {type(layer).__name__} cannot be packed: use BinaryEmbedding or nn.Embedding"
        )
    attributes = {"rows": layer.num_embeddings, "features": layer.embedding_dim, "of": of}
    if isinstance(layer, BinaryEmbedding):
        return _binary(r, name, layer, x, attributes)
    if layer.max_norm is not None:
        raise r.fail("an embedding with max_norm cannot be packed")
    return r.step("embedding", [x], attributes, weight=r.float_tensor(f"{name}.weight", layer.weight, "a float layer"))


def positions_or_none(r: Recorder, name: str, layer: nn.Module, x: str, rows: NDArray[Any]) -> str | None:
    """Record a table of bits whose rows are those of the positions of `x`; None where others are asked for, or the table is not one of bits."""
    if not isinstance(layer, BinaryEmbedding) or not np.array_equal(rows, np.arange(len(rows))):
        return None
    return embedding(r, name, layer, x, "position")


def _binary(r: Recorder, name: str, layer: BinaryEmbedding, x: str, attributes: dict[str, Any]) -> str:
    """A table of bits; one of several bits a weight is a table for each, whose rows are added."""
    scheme, values = layer.scheme, VALUES[layer.scheme.weights.values]
    planes, scale = weight_planes(scheme.weights, layer.weight, layer.output_axis)
    sums = []
    for number, (plane, factor) in enumerate(zip(planes, scheme.weights.planes, strict=True)):
        tensors = {"weight": r.bit_tensor(f"{name}.weight" + (f".{number}" if number else ""), layer.weight, plane)}
        if layer.bias is not None and scheme.bias == "bits" and not number:
            tensors["bias"] = r.bit_tensor(f"{name}.bias", layer.bias, threshold_bits(layer.bias)[None])
        rows = r.step("bit_embedding", [x], {**attributes, "values": values}, **tensors)
        sums.append(rows if factor == 1 else r.step("scale", [rows], {"factor": float(factor)}))
    y = sums[0]
    for other in sums[1:]:
        y = r.step("add", [y, other])
    bias = floats(layer.bias) if layer.bias is not None and scheme.bias == "float" else None
    y = scaled(r, name, y, with_gain(scale, layer.gain), bias, scheme.weights.constant_scale and layer.gain is None)
    return y if layer.normalize is None else normalized(r, f"{name}.normalize", layer.normalize, y)
