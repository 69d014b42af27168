"""What each kind of layer becomes in a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit.nn import (
    BinaryConv2d,
    BinaryEmbedding,
    BinaryGRU,
    BinaryLinear,
    BinaryLSTM,
    BinaryRecurrence,
    BinaryTransposedLinear,
    CausalAttention,
    ImageRows,
    Normalize,
    RPReLU,
    TokenPositionEmbedding,
)
from onebit.packing.activations import ACTIVATIONS
from onebit.quantizers import VALUES, threshold_bits, weight_planes

if TYPE_CHECKING:
    from onebit.packing.trace import Builder

Dense = BinaryLinear | BinaryConv2d | BinaryTransposedLinear


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(v) for v in value]


def _padding(b: Builder, layer: nn.Conv2d) -> list[int]:
    """[top, bottom, left, right] of a convolution; 'same' puts the odd one at the end, as PyTorch does."""
    if layer.padding_mode != "zeros":
        raise b.fail(f"padding_mode={layer.padding_mode!r} cannot be packed: use 'zeros'")
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        sides = []
        for kernel, dilation in zip(layer.kernel_size, layer.dilation, strict=True):
            total = dilation * (kernel - 1)
            sides += [total // 2, total - total // 2]
        return sides
    vertical, horizontal = _pair(layer.padding)
    return [vertical, vertical, horizontal, horizontal]


def _conv_attributes(b: Builder, layer: nn.Conv2d) -> dict[str, Any]:
    return {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": _pair(layer.kernel_size),
        "stride": _pair(layer.stride),
        "padding": _padding(b, layer),
        "dilation": _pair(layer.dilation),
        "groups": layer.groups,
    }


def _on_vectors(b: Builder, layer: nn.Conv2d, x: str) -> bool:
    """Whether a convolution of single pixels is given images of one pixel, which are vectors here: it is a dense layer then."""
    plain = _pair(layer.kernel_size) == [1, 1] and layer.groups == 1 and not any(_padding(b, layer))
    return plain and len(b.shape(x)) == 1


def _dense_attributes(layer: nn.Linear) -> dict[str, Any]:
    return {"in_features": layer.in_features, "out_features": layer.out_features}


def _binary(b: Builder, name: str, layer: Dense, x: str) -> str:
    """A layer with a scheme: what its inputs become, the product with bits, and the floats that scale the sums."""
    return binary_parts(b, name, layer, x, [slice(None)])[0]


def binary_parts(b: Builder, name: str, layer: Dense, x: str, parts: list[slice]) -> list[str]:
    """The steps of a layer with a scheme, for some of its outputs at a time; their names are `name`'s, with a number where there are several."""
    scheme = layer.scheme
    if scheme.input_normalize:
        x = b.step("normalize", [x], {"over": "channel", "eps": 1e-5})
    factor = None
    if scheme.input_scale:
        image = isinstance(layer, BinaryConv2d) and not _on_vectors(b, layer, x)
        window = ("kernel_size", "stride", "padding", "dilation") if image else ()
        attributes = _conv_attributes(b, layer) if isinstance(layer, BinaryConv2d) else {}
        factor = b.step("mean_magnitude", [x], {key: attributes[key] for key in window})
    if layer.threshold is not None:
        shift = -layer.threshold.detach().float().cpu().numpy()
        x = b.scale_shift(x, np.ones_like(shift), shift, f"{name}.threshold", "learned thresholds")
    if layer.normalize is not None and len(parts) > 1:
        raise b.fail(
            f"{name} normalises over several projections at once, which cannot be packed: use a scheme without `normalize`, such as BitNet()"
        )
    planes, scale = weight_planes(scheme.weights, layer.weight, layer.output_axis)
    planes = planes.movedim(1 + layer.output_axis, 1)  # (planes, out, ...)
    outputs = planes.shape[1]
    factors = _with_gain(scale, layer.gain)
    results = []
    for number, part in enumerate(parts):
        own = f"{name}.{number}" if len(parts) > 1 else name
        y = _product(b, own, layer, x, planes[:, part], part)
        multiplier = factors if factors is None else np.broadcast_to(factors, (outputs,))[part]
        bias = (
            layer.bias.detach().float().cpu().numpy()[part]
            if layer.bias is not None and scheme.bias == "float"
            else None
        )
        if factor is None:
            y = _scaled(b, own, y, multiplier, bias)
        else:
            y = b.step("multiply", [_scaled(b, f"{own}.weight", y, multiplier, None), factor])
            y = _scaled(b, f"{own}.bias", y, None, bias)
        results.append(y if layer.normalize is None else _normalize(b, f"{name}.normalize", layer.normalize, y))
    return results


def _with_gain(scale: Tensor | None, gain: Tensor | None) -> NDArray[Any] | None:
    """The scale of a layer's codes, () or (outputs), with its learned gain; None where there is neither."""
    if gain is not None:
        scale = gain.detach() if scale is None else scale * gain.detach()
    return None if scale is None else scale.cpu().numpy()


def _scaled(b: Builder, name: str, x: str, scale: NDArray[Any] | None, shift: NDArray[Any] | None) -> str:
    if scale is None and shift is None:
        return x
    channels = b.shape(x)[-1]
    full = np.ones(channels, np.float32) if scale is None else np.broadcast_to(scale, (channels,))
    reason = (
        "a float bias"
        if scale is None
        else "the scale of the weights" + (" and a float bias" if shift is not None else "")
    )
    return b.scale_shift(x, full, np.zeros(channels, np.float32) if shift is None else shift, name, reason)


def _product(b: Builder, name: str, layer: Dense, x: str, planes: Tensor, part: slice) -> str:
    """The product with bits, (planes, outputs, ...), and their bias."""
    scheme = layer.scheme
    rows = planes.flatten(0, 1)  # plane after plane
    if isinstance(layer, BinaryConv2d) and not _on_vectors(b, layer, x):
        op, attributes, weight = "bit_conv2d", _conv_attributes(b, layer), rows.permute(0, 2, 3, 1).flatten(1)
    else:
        op, attributes = "bit_linear", {"in_features": rows.shape[1], "out_features": planes.shape[1]}
        weight = rows.flatten(1)
    attributes = {**attributes, "values": VALUES[scheme.weights.values]}
    if len(scheme.weights.planes) > 1:
        attributes["planes"] = list(scheme.weights.planes)
    if scheme.activations is not None:
        attributes["input"] = scheme.activations.describe()
    tensors = {"weight": b.bit_tensor(f"{name}.weight", layer.weight, weight)}
    if layer.bias is not None and scheme.bias == "bits":
        bits = threshold_bits(layer.bias)[None, part]
        tensors["bias"] = b.bit_tensor(f"{name}.bias", layer.bias, bits)
    return b.step(op, [x], attributes, **tensors)


def _normalize(b: Builder, name: str, layer: Normalize, x: str) -> str:
    if layer.over != "batch":
        axis_is_channel = layer.over == "channel" or len(b.shape(x)) == 1
        return b.step("normalize", [x], {"over": "channel" if axis_is_channel else "example", "eps": layer.eps})
    assert layer.running_mean is not None and layer.running_var is not None
    return _running_statistics(b, name, x, layer.running_mean, layer.running_var, layer.eps, None, None)


def _batch_norm(b: Builder, name: str, layer: nn.BatchNorm1d | nn.BatchNorm2d, x: str) -> str:
    if layer.running_mean is None or layer.running_var is None:
        raise b.fail("a batch normalisation without running statistics cannot be packed: use track_running_stats=True")
    return _running_statistics(b, name, x, layer.running_mean, layer.running_var, layer.eps, layer.weight, layer.bias)


def _running_statistics(
    b: Builder,
    name: str,
    x: str,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    weight: Tensor | None,
    bias: Tensor | None,
) -> str:
    """Fold running mean and variance, and a learned scale and shift where there is one, to one scale and shift for each channel."""
    scale = (variance.detach().double() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.detach().double()
    shift = -mean.detach().double() * scale
    if bias is not None:
        shift = shift + bias.detach().double()
    return b.scale_shift(
        x, scale.cpu().numpy(), shift.cpu().numpy(), name, "running statistics of a batch normalisation"
    )


def _float_layer(b: Builder, name: str, layer: nn.Linear | nn.Conv2d, x: str) -> str:
    if isinstance(layer, nn.Conv2d) and _on_vectors(b, layer, x):
        op, attributes = "linear", {"in_features": layer.in_channels, "out_features": layer.out_channels}
        weight = layer.weight.flatten(1)
    elif isinstance(layer, nn.Conv2d):
        op, attributes, weight = "conv2d", _conv_attributes(b, layer), layer.weight.permute(0, 2, 3, 1)
    else:
        op, attributes, weight = "linear", _dense_attributes(layer), layer.weight
    return b.step(op, [x], attributes, **_float_tensors(b, name, weight, layer.bias))


def _float_tensors(b: Builder, name: str, weight: Tensor, bias: Tensor | None) -> dict[str, str]:
    reason = "a float layer"
    tensors = {"weight": b.float_tensor(f"{name}.weight", weight, reason)}
    return tensors if bias is None else tensors | {"bias": b.float_tensor(f"{name}.bias", bias, reason)}


def transposed_parts(b: Builder, name: str, layer: Any, x: str, parts: list[slice]) -> list[str]:
    """The steps of a dense layer whose weight lies as (in, out), binary or float, for some of its outputs at a time."""
    if isinstance(layer, BinaryTransposedLinear):
        return binary_parts(b, name, layer, x, parts)
    results = []
    for number, part in enumerate(parts):
        own = f"{name}.{number}" if len(parts) > 1 else name
        weight = layer.weight.t()[part]
        attributes = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
        results.append(b.step("linear", [x], attributes, **_float_tensors(b, own, weight, layer.bias[part])))
    return results


def _attention(b: Builder, name: str, layer: CausalAttention, x: str) -> str:
    projected = [b.layer(f"{name}.{part}", getattr(layer, part), x) for part in ("query", "key", "value")]
    return b.layer(f"{name}.out", layer.out, b.step("attention", projected, {"heads": layer.heads}))


def _binary_recurrent(b: Builder, name: str, layer: BinaryLSTM | BinaryGRU, x: str) -> str:
    _check_recurrent(b, layer)
    for index, part in enumerate(layer.layers):
        x = b.layer(f"{name}.layers.{index}", part, x)
    return x


def _check_recurrent(b: Builder, layer: BinaryLSTM | BinaryGRU | nn.LSTM | nn.GRU) -> None:
    kind = type(layer).__name__
    if layer.bidirectional:
        raise b.fail(f"a bidirectional {kind} cannot be packed: use one direction")
    if not layer.batch_first:
        raise b.fail(f"{kind} with batch_first=False cannot be packed: use batch_first=True")


def _recurrence(b: Builder, name: str, part: BinaryRecurrence, x: str) -> str:
    """The gates of the inputs, all steps at once, then the recurrence."""
    x = b.layer(f"{name}.inputs", part.inputs, x)
    if part.input_norm is not None:
        x = b.layer(f"{name}.input_norm", part.input_norm, x)
    quantizer, weights = part.quantizer, part.scheme.weights
    bits = part.bits().weight.flatten(0, 1) if len(weights.planes) > 1 else part.bits().weight  # plane after plane
    attributes: dict[str, Any] = {"hidden": part.hidden_size, "values": VALUES[weights.values]}
    if len(weights.planes) > 1:
        attributes["planes"] = list(weights.planes)
    if quantizer is not None:
        attributes["input"] = quantizer.describe()
    if part.normalized:
        attributes["eps"] = part.scheme.eps
    affine = part.affine(weight_planes(weights, part.weight)[1])
    reason = "scales and shifts of the recurrent sums"
    return b.step(
        f"bit_{part.kind}",
        [x],
        attributes,
        weight=b.bit_tensor(f"{name}.weight", part.weight, bits),
        scale=b.float_tensor(f"{name}.scale", affine.scale, reason),
        shift=b.float_tensor(f"{name}.shift", affine.shift, reason),
    )


def _float_recurrent(b: Builder, name: str, layer: nn.LSTM | nn.GRU, x: str) -> str:
    _check_recurrent(b, layer)
    if layer.proj_size:
        raise b.fail("LSTM with proj_size cannot be packed: put a linear layer behind it")
    kind, reason = ("lstm" if isinstance(layer, nn.LSTM) else "gru"), "a float layer"
    for index in range(layer.num_layers):
        part = f"{name}.layers.{index}"
        inputs, recurrent, *biases = layer.all_weights[index]
        zeros = inputs.new_zeros(len(inputs))
        input_bias, own_bias = biases or (zeros, zeros)
        shift = {"shift": own_bias}
        if kind == "lstm":
            input_bias, shift = input_bias + own_bias, {}  # the sums of both halves are added
        x = b.step(
            "linear",
            [x],
            {"in_features": inputs.shape[1], "out_features": len(inputs)},
            weight=b.float_tensor(f"{part}.inputs.weight", inputs, reason),
            bias=b.float_tensor(f"{part}.inputs.bias", input_bias, reason),
        )
        tensors = {"weight": recurrent, **shift}
        names = {role: b.float_tensor(f"{part}.{role}", tensor, reason) for role, tensor in tensors.items()}
        x = b.step(kind, [x], {"hidden": layer.hidden_size}, **names)
    return x


def _token_position(b: Builder, name: str, layer: TokenPositionEmbedding, x: str) -> str:
    tokens = embedding(b, f"{name}.tokens", layer.tokens, x)
    return b.step("add", [tokens, embedding(b, f"{name}.positions", layer.positions, x, "position")])


def embedding(b: Builder, name: str, layer: nn.Module, x: str, of: str = "token") -> str:
    if not isinstance(layer, nn.Embedding):
        raise b.fail(
            f"an embedding of type {type(layer).__name__} cannot be packed: use BinaryEmbedding or nn.Embedding"
        )
    attributes = {"rows": layer.num_embeddings, "features": layer.embedding_dim, "of": of}
    if not isinstance(layer, BinaryEmbedding):
        if layer.max_norm is not None:
            raise b.fail("an embedding with max_norm cannot be packed")
        return b.step(
            "embedding", [x], attributes, weight=b.float_tensor(f"{name}.weight", layer.weight, "a float layer")
        )
    scheme, values = layer.scheme, VALUES[layer.scheme.weights.values]
    planes, scale = weight_planes(scheme.weights, layer.weight, layer.output_axis)
    sums = []
    for number, (plane, factor) in enumerate(zip(planes, scheme.weights.planes, strict=True)):
        tensors = {"weight": b.bit_tensor(f"{name}.weight" + (f".{number}" if number else ""), layer.weight, plane)}
        if layer.bias is not None and scheme.bias == "bits" and not number:
            tensors["bias"] = b.bit_tensor(f"{name}.bias", layer.bias, threshold_bits(layer.bias)[None])
        y = b.step("bit_embedding", [x], {**attributes, "values": values}, **tensors)
        sums.append(y if factor == 1 else b.step("scale", [y], {"factor": float(factor)}))
    y = sums[0]
    for other in sums[1:]:
        y = b.step("add", [y, other])
    bias = layer.bias.detach().float().cpu().numpy() if layer.bias is not None and scheme.bias == "float" else None
    y = _scaled(b, name, y, _with_gain(scale, layer.gain), bias)
    return y if layer.normalize is None else _normalize(b, f"{name}.normalize", layer.normalize, y)


def _layer_norm(b: Builder, name: str, layer: nn.LayerNorm, x: str) -> str:
    if len(layer.normalized_shape) != 1 or b.shape(x)[-1] != layer.normalized_shape[0]:
        raise b.fail(f"LayerNorm({layer.normalized_shape}) cannot be packed: normalise over the last axis")
    y = b.step("normalize", [x], {"over": "channel", "eps": layer.eps})
    if layer.weight is None:
        return y
    weight = layer.weight.detach().float().cpu().numpy()
    shift = np.zeros_like(weight) if layer.bias is None else layer.bias.detach().float().cpu().numpy()
    return b.scale_shift(y, weight, shift, name, "learned scale and shift of a layer normalisation")


def _gelu(b: Builder, name: str, layer: nn.GELU, x: str) -> str:
    return b.gelu(x, layer.approximate)


def _hard_sigmoid(b: Builder, name: str, layer: nn.Module, x: str) -> str:
    channels = b.shape(x)[-1]
    y = b.step("clip", [x], {"low": -3.0, "high": 3.0})
    scale, shift = np.full(channels, 1 / 6, np.float32), np.full(channels, 0.5, np.float32)
    return b.scale_shift(y, scale, shift, b.unique(), "the slope and shift of a hard sigmoid")


def _hard_swish(b: Builder, name: str, layer: nn.Module, x: str) -> str:
    return b.step("multiply", [x, _hard_sigmoid(b, name, layer, x)])


def _leaky_relu(b: Builder, name: str, layer: nn.LeakyReLU, x: str) -> str:
    slope = np.full(b.shape(x)[-1], layer.negative_slope, np.float32)
    return b.step("prelu", [x], slope=b.float_tensor(f"{b.unique()}.slope", slope, "the slope of a leaky ReLU"))


def _softmax(b: Builder, name: str, layer: nn.Softmax, x: str) -> str:
    if layer.dim not in (1, -1) or len(b.shape(x)) != 1:
        raise b.fail(f"Softmax(dim={layer.dim}) cannot be packed: use it on (batch, classes) with dim=1")
    return b.step("softmax", [x])


def _rounds_up(b: Builder, layer: nn.MaxPool2d | nn.AvgPool2d, x: str) -> bool:
    """Whether `ceil_mode` makes a difference: some windows would stand half outside the image."""
    if not layer.ceil_mode or len(b.shape(x)) != 3:
        return False
    sizes = zip(b.shape(x), _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), strict=False)
    return any((side + 2 * padding - kernel) % stride for side, kernel, stride, padding in sizes)


def _max_pool(b: Builder, name: str, layer: nn.MaxPool2d, x: str) -> str:
    if _rounds_up(b, layer, x) or layer.return_indices or _pair(layer.dilation) != [1, 1]:
        raise b.fail(
            "MaxPool2d with return_indices or dilation, or with ceil_mode where windows do not fit, cannot be packed"
        )
    vertical, horizontal = _pair(layer.padding)
    padding = [vertical, vertical, horizontal, horizontal]
    return b.step(
        "max_pool2d", [x], {"kernel_size": _pair(layer.kernel_size), "stride": _pair(layer.stride), "padding": padding}
    )


def _mean_pool(b: Builder, name: str, layer: nn.AdaptiveAvgPool2d, x: str) -> str:
    if layer.output_size not in (1, (1, 1)):
        raise b.fail(f"AdaptiveAvgPool2d({layer.output_size}) cannot be packed: use output_size=1")
    return b.step("mean_pool", [x])


def _avg_pool(b: Builder, name: str, layer: nn.AvgPool2d, x: str) -> str:
    if _rounds_up(b, layer, x) or layer.divisor_override is not None:
        raise b.fail("AvgPool2d with divisor_override, or with ceil_mode where windows do not fit, cannot be packed")
    vertical, horizontal = _pair(layer.padding)
    attributes = {
        "kernel_size": _pair(layer.kernel_size),
        "stride": _pair(layer.stride),
        "padding": [vertical, vertical, horizontal, horizontal],
        "count_include_pad": layer.count_include_pad,
    }
    return b.step("avg_pool2d", [x], attributes)


def _group_norm(b: Builder, name: str, layer: nn.GroupNorm, x: str) -> str:
    y = b.step("group_normalize", [x], {"groups": layer.num_groups, "eps": layer.eps})
    if layer.weight is None:
        return y
    reason = "learned scale and shift of a group normalisation"
    return b.scale_shift(
        y, layer.weight.detach().float().cpu().numpy(), layer.bias.detach().float().cpu().numpy(), name, reason
    )


def _prelu(b: Builder, name: str, layer: nn.PReLU, x: str) -> str:
    slope = np.broadcast_to(layer.weight.detach().float().cpu().numpy(), (b.shape(x)[-1],))
    return b.step("prelu", [x], slope=b.float_tensor(f"{name}.slope", slope, "learned slopes"))


def _rprelu(b: Builder, name: str, layer: RPReLU, x: str) -> str:
    ones, reason = np.ones(layer.slope.numel(), np.float32), "learned shifts"
    y = b.scale_shift(x, ones, -layer.shift_in.detach().float().cpu().numpy(), f"{name}.in", reason)
    y = b.step("prelu", [y], slope=b.float_tensor(f"{name}.slope", layer.slope, "learned slopes"))
    return b.scale_shift(y, ones, layer.shift_out.detach().float().cpu().numpy(), f"{name}.out", reason)


def _clip(b: Builder, name: str, layer: nn.Hardtanh, x: str) -> str:
    return b.step("clip", [x], {"low": float(layer.min_val), "high": float(layer.max_val)})


def _flatten_layer(b: Builder, name: str, layer: nn.Flatten, x: str) -> str:
    if layer.start_dim != 1 or layer.end_dim != -1:
        raise b.fail("Flatten must keep the batch axis and flatten all others: use nn.Flatten()")
    return b.flatten(x)


# What each kind of layer becomes. Binary layers derive from PyTorch's own, so they stand first.
LAYERS: dict[type[nn.Module], Callable[..., str]] = {
    BinaryLinear: _binary,
    BinaryTransposedLinear: _binary,
    BinaryConv2d: _binary,
    BinaryEmbedding: embedding,
    BinaryLSTM: _binary_recurrent,
    BinaryGRU: _binary_recurrent,
    BinaryRecurrence: _recurrence,
    CausalAttention: _attention,
    TokenPositionEmbedding: _token_position,
    Normalize: _normalize,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: embedding,
    nn.Linear: _float_layer,
    nn.Conv2d: _float_layer,
    nn.LSTM: _float_recurrent,
    nn.GRU: _float_recurrent,
    ImageRows: lambda b, name, layer, x: b.step("rows", [x]),
    **{layer: activation.pack_layer for activation in ACTIVATIONS for layer in activation.layers},
    nn.Hardtanh: _clip,  # and ReLU6
    nn.PReLU: _prelu,
    RPReLU: _rprelu,
    nn.AvgPool2d: _avg_pool,
    nn.GroupNorm: _group_norm,
    nn.Hardsigmoid: _hard_sigmoid,
    nn.Hardswish: _hard_swish,
    nn.LeakyReLU: _leaky_relu,
    nn.GELU: _gelu,
    nn.Softmax: _softmax,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _mean_pool,
    nn.Flatten: _flatten_layer,
    nn.Dropout: lambda b, name, layer, x: x,
    nn.Dropout1d: lambda b, name, layer, x: x,
    nn.Dropout2d: lambda b, name, layer, x: x,
    nn.Identity: lambda b, name, layer, x: x,
}

# Layers that give (output, state), of which a program has the output only.
RECURRENT: tuple[type[nn.Module], ...] = (BinaryLSTM, BinaryGRU, nn.LSTM, nn.GRU)
