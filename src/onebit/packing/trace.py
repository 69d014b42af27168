"""A PyTorch model to the steps of a program, traced at the level of its layers by torch.fx."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from onebit.errors import PackError
from onebit.nn import (
    BinaryConv2d,
    BinaryEmbedding,
    BinaryLinear,
    CausalAttention,
    Normalize,
    TokenPositionEmbedding,
)
from onebit.program import Program, Step, pack_rows


@dataclass(frozen=True)
class FloatTensor:
    """A tensor that stays float32 in the packed file, and why."""

    name: str
    elements: int
    reason: str


@dataclass
class Trace:
    """What became of a model: its program, its tensors, the number of its parameters in bits, and what stayed float."""

    program: Program
    tensors: dict[str, NDArray[Any]]
    bit_parameters: int = 0
    kept_float: list[FloatTensor] = field(default_factory=list)


class _LayerTracer(fx.Tracer):
    """Traces through containers and stops at layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, tuple(_MODULES)) or super().is_leaf_module(m, module_qualified_name)


def trace(
    model: nn.Module,
    input_shape: Sequence[int],
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    tokens: bool = False,
) -> Trace:
    """Express a model as a program.

    Args:
        model: in evaluation mode; takes (batch, channels, height, width) for a 3-axis `input_shape`, (batch, features) for one axis, integers
            (batch, time) for tokens.
        input_shape: (height, width, channels) or (features,); (context,) for tokens.
        mean, std: of each channel; the program begins with ``(x - mean) / std`` where they are given.
        tokens: the model is one over tokens.

    Raises:
        PackError: the model holds a layer or a function that a program cannot express; the message names it.
    """
    tracer = _LayerTracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # torch.fx raises many kinds, all of them for control flow that depends on data
        raise PackError(
            f"[pack] {type(model).__name__} cannot be traced ({error}): avoid control flow that depends on tensors in its forward"
        ) from None
    builder = _Builder(model, Program("input", tuple(input_shape), (), "input", tokens), mean, std)
    for node in graph.nodes:
        builder.visit(node)
    return builder.finish()


class _Builder:
    """Collects steps, and knows each value's name and shape, from a traced graph."""

    def __init__(self, model: nn.Module, program: Program, mean: Sequence[float], std: Sequence[float]) -> None:
        self._model = model
        self._steps: list[Step] = []
        self._named: dict[str, str] = {}  # a graph node's name to a value's name
        self._result: str | None = None
        self._current = "input"
        self._tensors: dict[str, NDArray[Any]] = {}
        self._trace = Trace(program, self._tensors)
        self._source = "input"
        if len(mean):
            scale = 1 / np.asarray(std, np.float32)
            shift = -np.asarray(mean, np.float32) * scale
            self._source = self.scale_shift("input", scale, shift, "input", "the scaling of the input")

    def visit(self, node: fx.Node) -> None:
        """Turn one node of the graph into steps."""
        self._current = str(node.target)
        if node.op == "placeholder":
            if self._source in self._named.values():
                raise self.fail("the model takes more than one input: pack models of one input")
            self._named[node.name] = self._source
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise self.fail("the model returns more than one tensor: return one")
            self._result = self._named[node.args[0].name]
        elif node.op == "call_module":
            self._named[node.name] = self._module(node)
        elif node.op in ("call_function", "call_method"):
            self._named[node.name] = self._function(node)
        else:
            raise self.fail(f"uses the tensor {node.target!r} directly: put it into a layer")

    def finish(self) -> Trace:
        """The trace, its shapes checked."""
        assert self._result is not None
        program = replace(self._trace.program, steps=tuple(self._steps), output=self._result)
        try:
            program.shapes(self._tensors)
        except ValueError as error:
            raise PackError(f"[pack] the model does not fit an input of shape {program.input_shape}: {error}") from None
        self._trace.program = program
        return self._trace

    def fail(self, message: str) -> PackError:
        return PackError(f"[pack] {self._current}: {message}")

    def step(self, op: str, inputs: Sequence[str], attributes: dict[str, Any] | None = None, **tensors: str) -> str:
        """Append a step; returns the name of its output."""
        name = f"v{len(self._steps)}"
        self._steps.append(Step(op, tuple(inputs), name, attributes or {}, tensors))
        return name

    def float_tensor(self, name: str, values: Tensor | NDArray[Any], reason: str) -> str:
        """Store a tensor as float32; returns its name."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        if not np.isfinite(array).all():
            raise self.fail(f"{name} holds NaN or infinity: train again, or pack an earlier checkpoint")
        self._tensors[name] = np.ascontiguousarray(array, dtype=np.float32)
        self._trace.kept_float.append(FloatTensor(name, array.size, reason))
        return name

    def bit_tensor(self, name: str, latent: Tensor, bits: Tensor) -> str:
        """Store a matrix of bits, (rows, n); returns its name."""
        if not bool(torch.isfinite(latent).all()):
            raise self.fail(f"the latents of {name} hold NaN or infinity: train again, or pack an earlier checkpoint")
        self._tensors[name] = pack_rows(bits.cpu().numpy())
        self._trace.bit_parameters += bits.numel()
        return name

    def scale_shift(self, x: str, scale: NDArray[Any], shift: NDArray[Any], layer: str, reason: str) -> str:
        return self.step(
            "scale_shift",
            [x],
            scale=self.float_tensor(f"{layer}.scale", scale, reason),
            shift=self.float_tensor(f"{layer}.shift", shift, reason),
        )

    def _module(self, node: fx.Node) -> str:
        layer = self._model.get_submodule(str(node.target))
        if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
            raise self.fail("is called with more than one tensor: this layer takes one")
        return self.layer(str(node.target), layer, self._named[node.args[0].name])

    def layer(self, name: str, layer: nn.Module, x: str) -> str:
        """Append the steps of a layer; returns the name of its output."""
        for kind, handler in _MODULES.items():
            if isinstance(layer, kind):
                return handler(self, name, layer, x)
        known = ", ".join(sorted(kind.__name__ for kind in _MODULES))
        raise self.fail(f"a layer of type {type(layer).__name__} cannot be packed: use {known}")

    def _function(self, node: fx.Node) -> str:
        target = node.target
        tensors = [a for a in node.args if isinstance(a, fx.Node)]
        others = [a for a in node.args if not isinstance(a, fx.Node)]
        inputs = [self._named[a.name] for a in tensors]
        kwargs = dict(node.kwargs)
        if target in (operator.add, operator.iadd, torch.add, "add", "add_") and len(inputs) == 2 and not kwargs:
            return self.step("add", inputs)
        if (
            target in (operator.mul, torch.mul, "mul")
            and len(inputs) == 1
            and len(others) == 1
            and type(others[0]) in (int, float)
        ):
            return self._constant_scale(inputs[0], float(others[0]))  # type: ignore[arg-type]
        if target in (torch.relu, F.relu, "relu", "relu_"):
            return self.step("relu", inputs)
        if target is F.gelu and kwargs.get("approximate", "none") == "none":
            return self.step("gelu", inputs)
        if target in (torch.flatten, "flatten") and (others == [1] or kwargs == {"start_dim": 1}):
            return self._flatten(inputs[0])
        if (
            target in (torch.mean, "mean")
            and [tuple(o) for o in others if isinstance(o, (list, tuple))] in ([(2, 3)], [(-2, -1)])
            and not kwargs
        ):
            return self.step("mean_pool", inputs)
        if target in (torch.softmax, F.softmax, "softmax") and [*others, kwargs.get("dim")][0] in [1, -1]:
            return self.step("softmax", inputs)
        name = getattr(target, "__name__", str(target))
        raise self.fail(
            f"the function {name!r} cannot be packed: use a layer, or add, mul by a number, relu, gelu, flatten(1), mean((2, 3)), softmax(1)"
        )

    def _constant_scale(self, x: str, factor: float) -> str:
        if not 0 < factor < float("inf"):
            raise self.fail(f"a product with {factor} cannot be packed: use a number above 0")
        return self.step("scale", [x], {"factor": factor})

    def _shape(self, value: str) -> tuple[int, ...]:
        return replace(self._trace.program, steps=tuple(self._steps), output=value).shapes(self._tensors)[value]

    def _flatten(self, x: str) -> str:
        return self.step("flatten", [x], {"order": "chw" if len(self._shape(x)) == 3 else "hwc"})


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(v) for v in value]


def _padding(b: _Builder, layer: nn.Conv2d) -> list[int]:
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


def _conv_attributes(b: _Builder, layer: nn.Conv2d) -> dict[str, Any]:
    return {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": _pair(layer.kernel_size),
        "stride": _pair(layer.stride),
        "padding": _padding(b, layer),
        "dilation": _pair(layer.dilation),
        "groups": layer.groups,
    }


def _dense_attributes(layer: nn.Linear) -> dict[str, Any]:
    return {"in_features": layer.in_features, "out_features": layer.out_features}


def _binary(b: _Builder, name: str, layer: BinaryLinear | BinaryConv2d, x: str) -> str:
    bits = layer.bits()
    if isinstance(layer, BinaryConv2d):
        op, attributes, weight = "bit_conv2d", _conv_attributes(b, layer), bits.weight.permute(0, 2, 3, 1).flatten(1)
    else:
        op, attributes, weight = "bit_linear", _dense_attributes(layer), bits.weight
    tensors = {"weight": b.bit_tensor(f"{name}.weight", layer.weight, weight)}
    if layer.bias is not None and bits.bias is not None:
        tensors["bias"] = b.bit_tensor(f"{name}.bias", layer.bias, bits.bias[None])
    y = b.step(op, [x], {**attributes, "values": layer.values}, **tensors)
    return y if layer.normalize is None else _normalize(b, f"{name}.normalize", layer.normalize, y)


def _normalize(b: _Builder, name: str, layer: Normalize, x: str) -> str:
    if layer.over != "batch":
        axis_is_channel = layer.over == "channel" or len(b._shape(x)) == 1
        return b.step("normalize", [x], {"over": "channel" if axis_is_channel else "example", "eps": layer.eps})
    assert layer.running_mean is not None and layer.running_var is not None
    return _running_statistics(b, name, x, layer.running_mean, layer.running_var, layer.eps, None, None)


def _batch_norm(b: _Builder, name: str, layer: nn.BatchNorm1d | nn.BatchNorm2d, x: str) -> str:
    if layer.running_mean is None or layer.running_var is None:
        raise b.fail("a batch normalisation without running statistics cannot be packed: use track_running_stats=True")
    return _running_statistics(b, name, x, layer.running_mean, layer.running_var, layer.eps, layer.weight, layer.bias)


def _running_statistics(
    b: _Builder,
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


def _float_layer(b: _Builder, name: str, layer: nn.Linear | nn.Conv2d, x: str) -> str:
    reason = "a float layer"
    if isinstance(layer, nn.Conv2d):
        op, attributes, weight = "conv2d", _conv_attributes(b, layer), layer.weight.permute(0, 2, 3, 1)
    else:
        op, attributes, weight = "linear", _dense_attributes(layer), layer.weight
    tensors = {"weight": b.float_tensor(f"{name}.weight", weight, reason)}
    if layer.bias is not None:
        tensors["bias"] = b.float_tensor(f"{name}.bias", layer.bias, reason)
    return b.step(op, [x], attributes, **tensors)


def _attention(b: _Builder, name: str, layer: CausalAttention, x: str) -> str:
    projected = [b.layer(f"{name}.{part}", getattr(layer, part), x) for part in ("query", "key", "value")]
    return b.layer(f"{name}.out", layer.out, b.step("attention", projected, {"heads": layer.heads}))


def _token_position(b: _Builder, name: str, layer: TokenPositionEmbedding, x: str) -> str:
    tokens = _embedding(b, f"{name}.tokens", layer.tokens, x)
    return b.step("add", [tokens, _embedding(b, f"{name}.positions", layer.positions, x, "position")])


def _embedding(b: _Builder, name: str, layer: nn.Module, x: str, of: str = "token") -> str:
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
    bits = layer.bits()
    tensors = {"weight": b.bit_tensor(f"{name}.weight", layer.weight, bits.weight)}
    if layer.bias is not None and bits.bias is not None:
        tensors["bias"] = b.bit_tensor(f"{name}.bias", layer.bias, bits.bias[None])
    y = b.step("bit_embedding", [x], {**attributes, "values": layer.values}, **tensors)
    return y if layer.normalize is None else _normalize(b, f"{name}.normalize", layer.normalize, y)


def _layer_norm(b: _Builder, name: str, layer: nn.LayerNorm, x: str) -> str:
    if len(layer.normalized_shape) != 1 or b._shape(x)[-1] != layer.normalized_shape[0]:
        raise b.fail(f"LayerNorm({layer.normalized_shape}) cannot be packed: normalise over the last axis")
    y = b.step("normalize", [x], {"over": "channel", "eps": layer.eps})
    if layer.weight is None:
        return y
    weight = layer.weight.detach().cpu().numpy()
    shift = np.zeros_like(weight) if layer.bias is None else layer.bias.detach().cpu().numpy()
    return b.scale_shift(y, weight, shift, name, "learned scale and shift of a layer normalisation")


def _gelu(b: _Builder, name: str, layer: nn.GELU, x: str) -> str:
    if layer.approximate != "none":
        raise b.fail(f"GELU(approximate={layer.approximate!r}) cannot be packed: use approximate='none'")
    return b.step("gelu", [x])


def _softmax(b: _Builder, name: str, layer: nn.Softmax, x: str) -> str:
    if layer.dim not in (1, -1) or len(b._shape(x)) != 1:
        raise b.fail(f"Softmax(dim={layer.dim}) cannot be packed: use it on (batch, classes) with dim=1")
    return b.step("softmax", [x])


def _max_pool(b: _Builder, name: str, layer: nn.MaxPool2d, x: str) -> str:
    if layer.ceil_mode or layer.return_indices or _pair(layer.dilation) != [1, 1]:
        raise b.fail("MaxPool2d with ceil_mode, return_indices or dilation cannot be packed")
    vertical, horizontal = _pair(layer.padding)
    padding = [vertical, vertical, horizontal, horizontal]
    return b.step(
        "max_pool2d", [x], {"kernel_size": _pair(layer.kernel_size), "stride": _pair(layer.stride), "padding": padding}
    )


def _mean_pool(b: _Builder, name: str, layer: nn.AdaptiveAvgPool2d, x: str) -> str:
    if layer.output_size not in (1, (1, 1)):
        raise b.fail(f"AdaptiveAvgPool2d({layer.output_size}) cannot be packed: use output_size=1")
    return b.step("mean_pool", [x])


def _flatten_layer(b: _Builder, name: str, layer: nn.Flatten, x: str) -> str:
    if layer.start_dim != 1 or layer.end_dim != -1:
        raise b.fail("Flatten must keep the batch axis and flatten all others: use nn.Flatten()")
    return b._flatten(x)


# Binary layers derive from PyTorch's own, so they stand first.
_MODULES: dict[type[nn.Module], Callable[..., str]] = {
    BinaryLinear: _binary,
    BinaryConv2d: _binary,
    BinaryEmbedding: _embedding,
    CausalAttention: _attention,
    TokenPositionEmbedding: _token_position,
    Normalize: _normalize,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
    nn.Linear: _float_layer,
    nn.Conv2d: _float_layer,
    nn.ReLU: lambda b, name, layer, x: b.step("relu", [x]),
    nn.GELU: _gelu,
    nn.Softmax: _softmax,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _mean_pool,
    nn.Flatten: _flatten_layer,
    nn.Dropout: lambda b, name, layer, x: x,
    nn.Dropout2d: lambda b, name, layer, x: x,
    nn.Identity: lambda b, name, layer, x: x,
}
