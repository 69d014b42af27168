"""Convert binary layers back to PyTorch's own, with the latent weights or with the values of their bits as weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from onebit.conversion.composites import attention_to_float, recurrence_to_float
from onebit.conversion.convert import leave_fast_paths
from onebit.conversion.forms import BINARY, FORMS
from onebit.conversion.report import ConversionReport, LayerReport
from onebit.errors import shown
from onebit.nn import BinaryGRU, BinaryLayer, BinaryLSTM, BinaryMultiheadAttention, BinaryTransposedLinear
from onebit.quantizers import binarize

FloatValues = Literal["latents", "quantized"]


def _kind(layer: BinaryLayer) -> type[nn.Module]:
    """The PyTorch type of a layer: the type it was converted from, or else the corresponding one."""
    usual = next((kind for kind, form in FORMS.items() if isinstance(layer, form)), nn.Linear)
    return layer.converted_from or usual


def to_float(model: nn.Module, values: FloatValues = "latents") -> ConversionReport:
    r"""Convert the binary layers of a model to float layers, in place. It undoes `convert`, and takes any model with binary layers.

    .. math:: W_{float} = W_{latent} \quad \text{or} \quad W_{float} = \text{gain} \cdot \text{scale} \cdot \text{codes}(W_{latent})

    A float layer does not have the normalisation or the quantisation of inputs. Both are dropped, and the report names them.

    Args:
        model: the model. It is changed, and its modules stay the same objects.
        values: ``"latents"`` takes the latent weights; ``"quantized"`` takes the values of their bits, including scales.

    Returns:
        A report of each binary layer, with what it lost.

    Raises:
        ValueError: `model` is not a module, or `values` is neither of the two.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 4))
        >>> report = onebit.convert(model, keep=())
        >>> type(model[0]).__name__, onebit.to_float(model).converted, type(model[0]).__name__
        ('BinaryLinear', ('0',), 'Linear')
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"[to_float] {type(model).__name__} is not a PyTorch model: give an nn.Module")
    if not isinstance(values, str) or values not in ("latents", "quantized"):
        raise ValueError(f"[to_float] values={shown(values)}: use 'latents' or 'quantized'")
    layers: list[tuple[str, Any]] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside or not isinstance(module, BINARY):
            continue
        inside |= set(module.modules())
        layers.append((name, module))
    rows = []
    with torch.no_grad():
        parts = [part for _, layer in layers for part in _parts(layer)]
        weights = _shared_weights(parts, _latent if values == "latents" else _quantized)
        for name, layer in layers:
            kind, lost = type(layer).__name__, _lost(layer, values)
            count = sum(p.numel() for p in layer.parameters())
            for part in _parts(layer):
                _restore(part, weights[id(part)], values)
            if isinstance(layer, BinaryMultiheadAttention):
                attention_to_float(layer)
            elif isinstance(layer, (BinaryLSTM, BinaryGRU)):
                recurrence_to_float(layer, values == "quantized")
            rows.append(LayerReport(name, kind, True, lost, count))
    leave_fast_paths(model)
    title = f"{type(model).__name__}: {len(rows)} layers float again, with {values} as weights"
    return ConversionReport(title, tuple(rows))


def _parts(layer: Any) -> list[BinaryLayer]:
    """The parts of a layer that have their own latent weights."""
    if isinstance(layer, BinaryMultiheadAttention):
        return [layer.query, layer.key, layer.value, layer.out_proj]
    recurrences: Any = layer.layers if isinstance(layer, (BinaryLSTM, BinaryGRU)) else ()
    return [part.inputs for part in recurrences] or [layer]


def _latent(layer: BinaryLayer) -> Tensor:
    return layer.weight.detach()


def _quantized(layer: BinaryLayer) -> Tensor:
    """The weight that a layer multiplies with outside training, in the shape of its latent weights."""
    codes, scale = layer.scheme.weights(layer.weight.float(), layer.output_axis, False)
    return _times(codes, _scale(layer, scale), layer.output_axis).to(layer.weight.dtype)


def _scale(layer: BinaryLayer, scale: Tensor | None) -> Tensor | None:
    if layer.gain is None:
        return scale
    return layer.gain.float() if scale is None else scale * layer.gain.float()


def _times(codes: Tensor, scale: Tensor | None, axis: int) -> Tensor:
    if scale is None:
        return codes
    shape = [1] * codes.dim()
    shape[axis] = -1
    return codes * (scale.view(shape) if scale.dim() else scale)


def _shared_weights(parts: list[BinaryLayer], weight_of: Callable[[BinaryLayer], Tensor]) -> dict[int, nn.Parameter]:
    """The float weight of each part. A parameter that parts share stays shared if they compute the same weight from it."""
    sharing: dict[int, list[BinaryLayer]] = defaultdict(list)
    for part in parts:
        sharing[id(part.weight)].append(part)
    made: dict[int, nn.Parameter] = {}
    for group in sharing.values():
        latent, values = group[0].weight, [weight_of(part) for part in group]
        first = values[0]
        for part, value in zip(group, values, strict=True):
            own = not torch.equal(value, first)
            made[id(part)] = nn.Parameter(value.clone(), latent.requires_grad) if own else latent
        latent.copy_(first)
    return made


def _restore(layer: BinaryLayer, weight: nn.Parameter, values: FloatValues) -> None:
    scheme, kind = layer.scheme, _kind(layer)
    if values == "quantized" and layer.bias is not None and scheme.bias == "bits":
        bits = binarize(layer.bias.float(), scheme.weights.values)
        scale = _scale(layer, scheme.weights(layer.weight.float(), layer.output_axis, False).scale)
        layer.bias.copy_(bits if scale is None else bits * scale)
    layer.weight = weight
    if isinstance(layer, BinaryTransposedLinear) and kind is nn.Linear:
        layer.in_features, layer.out_features = weight.shape  # type: ignore[assignment]
        layer.weight = nn.Parameter(weight.t().contiguous(), weight.requires_grad)
    if issubclass(kind, nn.Embedding):
        if layer.bias is not None:
            weight.add_(layer.bias)  # it is added to the rows of a table
        del layer.bias
    layer.strip()
    layer.__class__ = kind  # type: ignore[assignment]


def _lost(whole: nn.Module, values: FloatValues) -> str:
    """The operations of a binary layer that a float layer does not have."""
    gates = isinstance(whole, (BinaryLSTM, BinaryGRU)) and whole.layers[0].normalized
    layer = _parts(whole)[0]
    scheme = layer.scheme
    lost = {
        "the normalisation of its gates": gates,
        f"its normalisation over the {scheme.normalize}": layer.normalize is not None,
        f"its inputs by {type(scheme.activations).__name__}": scheme.activations is not None,
        "the normalisation of its inputs": scheme.input_normalize,
        "learned thresholds": layer.threshold is not None,
        "the magnitudes of its inputs": scheme.input_scale,
        "a learned gain": layer.gain is not None and values == "latents",
    }
    names = [name for name, gone in lost.items() if gone]
    return f"without {', '.join(names)}" if names else ""
