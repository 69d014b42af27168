"""Convert layers that become several binary layers (attention and recurrences), and convert them back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onebit.conversion.forms import COMPOSITES, FORMS, become, own_parameter, turn_layer
from onebit.nn import BinaryGRU, BinaryLSTM, BinaryMultiheadAttention
from onebit.nn.multihead import check_attention_scheme
from onebit.schemes import Scheme


def check_composite(module: Any, scheme: Scheme) -> None:
    """Raise ValueError if a layer's options or the scheme do not have a binary form."""
    if isinstance(module, nn.MultiheadAttention):
        _check_attention(module, scheme)
    else:
        _check_recurrence(module, scheme)


def turn_composite(module: Any, scheme: Scheme) -> None:
    """Turn attention or a recurrence into its binary form, in place."""
    if isinstance(module, nn.MultiheadAttention):
        _turn_attention(module, scheme)
    else:
        _turn_recurrence(module, scheme)


def _check_attention(module: Any, scheme: Scheme) -> None:
    if module.bias_k is not None:
        raise ValueError("add_bias_kv=True adds a float key and a float value that no layer computes")
    if module.add_zero_attn:
        raise ValueError("add_zero_attn=True adds a key and a value that no layer computes")
    check_attention_scheme(scheme)


def _turn_attention(module: Any, scheme: Scheme) -> None:
    embed, bias = module.embed_dim, module.in_proj_bias is not None
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    weights = module.in_proj_weight.chunk(3) if module._qkv_same_embed_dim else [getattr(module, n) for n in names]
    biases = module.in_proj_bias.chunk(3) if bias else [None] * 3
    with torch.device("meta"):  # its initial latent weights are replaced below
        made = BinaryMultiheadAttention(
            embed, module.num_heads, module.dropout, bias, module.kdim, module.vdim, module.batch_first, scheme
        )
    for name, weight, part in zip(("query", "key", "value"), weights, biases, strict=True):
        projection = nn.Linear(weight.shape[1], embed, bias, device="meta")
        projection.weight = own_parameter(weight)
        if part is not None:
            projection.bias = own_parameter(part)
        turn_layer(projection, FORMS[nn.Linear], scheme)
        setattr(made, name, projection)
    out = module.out_proj
    turn_layer(out, FORMS[nn.Linear], scheme)
    made.out_proj = out
    made.train(module.training)
    become(module, made)


def _check_recurrence(module: Any, scheme: Scheme) -> None:
    if module.dropout and module.num_layers > 1:
        raise ValueError("dropout between its layers: use dropout=0, or single layers")
    if module.proj_size:
        raise ValueError("proj_size: put a dense layer after it instead")
    with torch.device("meta"):
        COMPOSITES[nn.LSTM](1, 1, scheme=scheme)  # raises if the scheme does not fit


def _turn_recurrence(module: Any, scheme: Scheme) -> None:
    kind = BinaryLSTM if isinstance(module, nn.LSTM) else BinaryGRU
    with torch.random.fork_rng(devices=[]):  # its initial latent weights are replaced below
        made: Any = kind(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            module.bias,
            module.batch_first,
            module.bidirectional,
            scheme=scheme,
        )
    first = module.all_weights[0][0]
    made = made.to(first.device, first.dtype).requires_grad_(first.requires_grad)
    for part, (inputs, recurrent, *biases) in zip(made.layers, module.all_weights, strict=True):
        part.inputs.weight, part.weight = inputs, recurrent
        if biases:
            _set_bias(part, *biases)
    made.train(module.training)
    become(module, made)


def _set_bias(part: Any, inputs: Tensor, recurrent: Tensor) -> None:
    """One bias serves both halves. Only a GRU's candidate may have a second one."""
    hidden, own = part.hidden_size, part.bias
    with torch.no_grad():
        both = inputs + recurrent
        if own is not None:
            both[-hidden:] = inputs[-hidden:]
            own.copy_(recurrent[-hidden:])
        (part.inputs if part.inputs.bias is not None else part.input_norm).bias.copy_(both)


def recurrence_to_float(layer: Any, quantized: bool) -> None:
    """Turn a binary recurrence into PyTorch's own, in place. Its `inputs` are already float."""
    first = layer.layers[0]
    source = first.input_norm if first.inputs.bias is None and first.input_norm is not None else first.inputs
    with torch.random.fork_rng(devices=[]):
        made: Any = (nn.LSTM if isinstance(layer, BinaryLSTM) else nn.GRU)(
            layer.input_size,
            layer.hidden_size,
            layer.num_layers,
            source.bias is not None,
            layer.batch_first,
            bidirectional=layer.bidirectional,
        )
    made = made.to(first.weight.device, first.weight.dtype).requires_grad_(first.weight.requires_grad)
    for part, (inputs, recurrent, *biases) in zip(layer.layers, made.all_weights, strict=True):
        inputs.copy_(part.inputs.weight)
        recurrent.copy_(_recurrent_weight(part) if quantized else part.weight)
        if biases:
            biases[0].copy_((part.inputs if part.inputs.bias is not None else part.input_norm).bias)
            biases[1].zero_()
            if part.bias is not None:
                biases[1][-layer.hidden_size :].copy_(part.bias)
    made.train(layer.training)
    become(layer, made)


def _recurrent_weight(part: Any) -> Tensor:
    codes, scale = part.scheme.weights(part.weight.float(), 0, False)
    weight: Tensor = codes * part.affine(scale).scale[:, None]
    return weight


def attention_to_float(layer: Any) -> None:
    """Turn binary attention into PyTorch's own, in place. Its projections are already float."""
    parts = [layer.query, layer.key, layer.value]
    bias = layer.out_proj.bias is not None
    with torch.device("meta"):
        made = nn.MultiheadAttention(
            layer.embed_dim,
            layer.num_heads,
            layer.dropout,
            bias,
            kdim=layer.kdim,
            vdim=layer.vdim,
            batch_first=layer.batch_first,
        )
    trained = parts[0].weight.requires_grad
    if layer.kdim == layer.vdim == layer.embed_dim:
        made.in_proj_weight = nn.Parameter(torch.cat([part.weight for part in parts]), trained)
    else:
        for name, part in zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), parts, strict=True):
            setattr(made, name, part.weight)
    if bias:
        made.in_proj_bias = nn.Parameter(torch.cat([part.bias for part in parts]), trained)
    out = layer.out_proj
    out.__class__ = type(made.out_proj)
    made.out_proj = out
    made.train(layer.training)
    become(layer, made)
