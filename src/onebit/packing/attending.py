"""Attention as models write it: as a layer, as a function, and as a softmax between two products."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn import BinaryMultiheadAttention
from onebit.packing.called import called
from onebit.packing.handlers import packs_function, packs_value
from onebit.packing.layers.dense import linear_step
from onebit.packing.layouts import arranged, features_last, in_order, reshaped, rows_of, settled
from onebit.packing.masks import EVERYTHING, HIDES, Seen, bias_tensor, joined, mask_value, seen_through
from onebit.packing.recorder import Recorder
from onebit.packing.shaping import axis_of
from onebit.packing.values import BATCH, Scores, Value

HEADS: tuple[int, ...] = (BATCH, 1, 0, 2)  # (batch, heads, rows, features) as rows of all heads' features


def attention(
    r: Recorder,
    q: Value,
    k: Value,
    v: Value,
    *,
    causal: bool = False,
    factor: float | None = None,
    seen: Seen = EVERYTHING,
) -> Value:
    """Record an attention of queries, keys and values of (batch, heads, rows, features)."""
    if not all(len(x.axes) == 4 for x in (q, k, v)):
        raise r.fail(f"an attention of {q.spelled()} cannot be packed: needs (batch, heads, rows, features)")
    q, k, v = (arranged(r, x, HEADS) for x in (q, k, v))
    rows, heads, features = q.shape
    kv_heads = k.shape[1]
    if v.shape[2] != features:
        raise r.fail(f"an attention with values of {v.shape[2]} features for keys of {features} cannot be packed")
    names = [reshaped(r, x.name, (x.shape[0], x.shape[1] * x.shape[2])) for x in (q, k, v)]
    if factor is not None and not math.isclose(factor, features**-0.5, rel_tol=1e-6):
        names[0] = r.step("scale", [names[0]], {"factor": factor * math.sqrt(features)})
    causal |= seen.causal
    attributes: dict[str, Any] = {"heads": heads} | ({} if kv_heads == heads else {"kv_heads": kv_heads})
    if r.tokens:
        if not causal or seen.bias is not None:
            raise r.fail(MISPLACED)
        return Value(r.step("attention", names, attributes), (rows, heads, features), HEADS)
    if causal and rows != k.shape[0]:
        raise r.fail(f"a causal attention of {rows} queries to {k.shape[0]} keys cannot be packed: use as many")
    if causal:
        attributes["causal"] = True
    if seen.mask is not None:
        names.append(mask_value(r, seen.mask))
    tensors = {} if seen.bias is None else {"bias": bias_tensor(r, seen.bias, heads)}
    return Value(r.step("full_attention", names, attributes, **tensors), (rows, heads, features), HEADS)


def split_heads(x: Value, heads: int) -> Value:
    """(batch, rows, features) as (batch, heads, rows, features / heads)."""
    return Value(x.name, (x.shape[0], heads, x.shape[1] // heads), HEADS)


MISPLACED = (
    "attention over all positions cannot be packed over tokens, where each sees those before it: "
    "use is_causal=True, onebit.nn.BinaryAttention, or an onebit.TensorTask with an input of integers"
)


@packs_function("scaled_dot_product_attention", F.scaled_dot_product_attention)
def _dot_product_attention(
    r: Recorder,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    seen = _masked(r, attn_mask, query, key)
    return attention(r, query, key, value, causal=is_causal, factor=scale, seen=seen)


def _masked(r: Recorder, mask: Any, query: Value, key: Value) -> Seen:
    """What a mask shows of keys (batch, heads, rows, features)."""
    if mask is None:
        return EVERYTHING
    if not isinstance(mask, Tensor) or len(query.axes) != 4 or len(key.axes) != 4:
        raise r.fail("an attention with this mask cannot be packed: use a mask over positions, or a causal one")
    return seen_through(r, mask, query.length(2) or 0, key.length(2) or 0)


# Written out: a product, a softmax, a product.


@packs_function("matmul", torch.matmul, operator.matmul, torch.bmm, "matmul", "bmm")
def _matmul(r: Recorder, input: Any, other: Any) -> Any:
    if isinstance(input, Value) and isinstance(other, Value) and len(input.axes) == len(other.axes) == 4:
        axes = list(other.axes)
        axes[-1], axes[-2] = axes[-2], axes[-1]
        return Scores(input, Value(other.name, other.shape, tuple(axes)))
    if isinstance(input, Scores) and isinstance(other, Value):
        if not input.weights:
            raise r.fail(
                "a product of three tensors can be packed only as an attention, with a softmax(-1) of the first two"
            )
        return attention(r, input.queries, input.keys, other, factor=input.factor, seen=input.seen)
    if isinstance(input, Value) and isinstance(other, Tensor) and other.dim() == 2:
        x = features_last(r, input)
        y = linear_step(r, r.unique(), rows_of(r, x), other.t(), None)
        return Value(y, (*x.shape[:-1], other.shape[1]), x.axes)
    raise r.fail("a product of matrices can be packed only with a parameter, or as an attention")


@packs_function("linear", F.linear)
def _linear(r: Recorder, input: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    if not isinstance(weight, Tensor):
        raise r.fail("linear can be packed only with a parameter as its weight")
    x = features_last(r, input)
    y = linear_step(r, r.unique(), rows_of(r, x), weight, bias)
    return Value(y, (*x.shape[:-1], len(weight)), x.axes)


@packs_function("softmax(-1)", torch.softmax, F.softmax, "softmax")
def _softmax(r: Recorder, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    if isinstance(input, Scores):
        if dim not in (-1, 3):
            raise r.fail(f"softmax({dim}) of scores cannot be packed: use softmax(-1)")
        return replace(input, weights=True)
    if not isinstance(dim, int):
        raise r.fail("softmax without its axis cannot be packed: give dim")
    place = input.axes[axis_of(r, input, dim)]
    if place == BATCH:
        raise r.fail("softmax over the batch cannot be packed")
    if place != len(input.shape) - 1:
        others = [axis for axis in input.axes if axis not in (place, BATCH)]
        order = {axis: number for number, axis in enumerate([*others, place])}
        input = arranged(r, input, tuple(BATCH if axis == BATCH else order[axis] for axis in input.axes))
    return input.renamed(r.step("softmax", [settled(r, input)]))


def added_to_scores(r: Recorder, scores: Scores, added: Any) -> Scores:
    """Scores plus a mask, or plus numbers for each pair of positions."""
    if not isinstance(added, Tensor) or scores.weights:
        raise r.fail("scores of an attention can be packed only plus a mask or a constant")
    return replace(scores, seen=joined(r, scores.seen, _masked(r, added.float(), scores.queries, scores.keys)))


@packs_function("masked_fill", torch.masked_fill, "masked_fill", "masked_fill_")
def _masked_fill(r: Recorder, input: Any, mask: Any, value: Any) -> Scores:
    number = float(value)
    if not isinstance(input, Scores) or not isinstance(mask, Tensor) or number > HIDES or input.weights:
        raise r.fail("masked_fill can be packed only for the scores of an attention, with a number below -1e4")
    shown = _masked(r, ~mask.bool(), input.queries, input.keys)
    return replace(input, seen=joined(r, input.seen, shown))


@packs_value(nn.Softmax)
def _softmax_layer(r: Recorder, name: str, layer: nn.Softmax, input: Any) -> Any:
    return _softmax(r, input, layer.dim)


@packs_value(nn.MultiheadAttention, BinaryMultiheadAttention)
def multihead(
    r: Recorder,
    name: str,
    layer: Any,
    query: Value,
    key: Value,
    value: Value,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Value, None]:
    """Attention as a layer; its weights are not given."""
    if not layer.batch_first:
        raise r.fail(f"{type(layer).__name__} with batch_first=False cannot be packed: use batch_first=True")
    q, k, v = _projected(r, name, layer, (query, key, value))
    heads = [split_heads(x, layer.num_heads) for x in (q, k, v)]
    seen = EVERYTHING
    for mask, axes in ((attn_mask, 2), (key_padding_mask, 1)):
        if mask is None:
            continue
        if not isinstance(mask, Tensor) or mask.dim() not in (axes, 2):
            raise r.fail(f"{type(layer).__name__} with a mask for each head cannot be packed: use one for all")
        shown = ~mask if mask.dtype == torch.bool else mask  # True hides here
        shown = shown[:, None, None, :] if mask is key_padding_mask else shown
        seen = joined(r, seen, _masked(r, shown, heads[0], heads[1]))
    y = attention(r, *heads, seen=seen)
    rows = Value(y.name, (y.shape[0], y.shape[1] * y.shape[2]), (BATCH, 0, 1))
    return called(r, f"{name}.out_proj", layer.out_proj, rows), None


def _projected(r: Recorder, name: str, layer: Any, inputs: tuple[Value, ...]) -> list[Value]:
    """Queries, keys and values, each (batch, rows, features)."""
    inputs = tuple(in_order(r, x) for x in inputs)
    if isinstance(layer, BinaryMultiheadAttention):
        parts = (layer.query, layer.key, layer.value)
        words = ("query", "key", "value")
        return [called(r, f"{name}.{word}", part, x) for word, part, x in zip(words, parts, inputs, strict=True)]
    if layer.bias_k is not None or layer.add_zero_attn:
        raise r.fail("MultiheadAttention with add_bias_kv or add_zero_attn cannot be packed")
    if layer.in_proj_weight is not None:
        weights = layer.in_proj_weight.chunk(3)
    else:
        weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    names = [
        linear_step(r, f"{name}.in_proj.{i}", settled(r, x), w, b)
        for i, (x, w, b) in enumerate(zip(inputs, weights, biases, strict=True))
    ]
    return [Value.of(r, made, (BATCH, 0, 1)) for made in names]


@packs_value(nn.TransformerEncoderLayer)
def _encoder_layer(
    r: Recorder,
    name: str,
    layer: nn.TransformerEncoderLayer,
    src: Value,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: Any = False,
) -> Value:
    def attend(x: Value) -> Value:
        masks = {"key_padding_mask": src_key_padding_mask, "attn_mask": src_mask}
        return multihead(r, f"{name}.self_attn", layer.self_attn, x, x, x, **masks)[0]

    def feed(x: Value) -> Value:
        x = called(r, f"{name}.linear1", layer.linear1, x)
        return called(r, f"{name}.linear2", layer.linear2, _activated(r, layer, x))

    def add(x: Value, y: Value) -> Value:
        return x.renamed(r.step("add", [settled(r, x), settled(r, y)]))

    x = in_order(r, src)
    if layer.norm_first:
        x = add(x, attend(called(r, f"{name}.norm1", layer.norm1, x)))
        return add(x, feed(called(r, f"{name}.norm2", layer.norm2, x)))
    x = called(r, f"{name}.norm1", layer.norm1, add(x, attend(x)))
    return called(r, f"{name}.norm2", layer.norm2, add(x, feed(x)))


def _activated(r: Recorder, layer: Any, x: Value) -> Value:
    activation: Any = layer.activation
    if isinstance(activation, nn.Module):
        return called(r, "activation", activation, x)
    ops = {F.relu: "relu", F.gelu: "gelu", torch.relu: "relu", F.silu: "silu"}
    if activation not in ops:
        raise r.fail(
            f"the activation {getattr(activation, '__name__', activation)} of a TransformerEncoderLayer cannot be packed: use relu or gelu"
        )
    return x.renamed(r.step(ops[activation], [x.name]))


@packs_value(nn.TransformerEncoder)
def _encoder(
    r: Recorder,
    name: str,
    model: nn.TransformerEncoder,
    src: Value,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: Any = None,
) -> Value:
    prefix = f"{name}." if name else ""
    for index, layer in enumerate(model.layers):
        src = _encoder_layer(r, f"{prefix}layers.{index}", layer, src, mask, src_key_padding_mask)  # type: ignore[arg-type]
    return src if model.norm is None else called(r, f"{prefix}norm", model.norm, src)
