"""What the binary layers share: how a scheme's parts are set up in a layer, and how the layer computes with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from onebit.nn.normalize import Normalize
from onebit.normalize import OVERS, Over, normalize_channel
from onebit.quantizers import VALUES, Codes, MeanThreshold, Values, binarize, threshold_bits, weight_planes
from onebit.quantizers.gradients import quantize_gradient
from onebit.schemes import BinaryNormalized, Scheme


class Bits(NamedTuple):
    """The bits of a layer: bool tensors of the shapes of its `weight` and `bias`.

    Args:
        weight: of the shape of the weight; of a scheme with several bits a weight, (planes, *shape).
        bias: None where the layer has none, or a float one.
    """

    weight: Tensor
    bias: Tensor | None


def layer_bits(weight: Tensor, bias: Tensor | None, scheme: Scheme, axis: int = 0) -> Bits:
    """The bits of a layer's latents, detached from the graph."""
    with torch.no_grad():
        planes = weight_planes(scheme.weights, weight, axis)[0]
        bias_bits = None if bias is None or scheme.bias == "float" else threshold_bits(bias)
        return Bits(planes[0] if len(planes) == 1 else planes, bias_bits)


def all_finite(latent: Tensor) -> bool:
    """Whether no element is NaN or infinite; of a tensor without data nothing is known, and it passes."""
    with torch.no_grad():
        # A sum is many times quicker than a look at each element. One that is not finite may have overflowed: then look.
        return latent.is_meta or bool(torch.isfinite(latent.sum())) or bool(torch.isfinite(latent).all())


def start_latents(weight: Tensor, bias: Tensor | None, spread: float) -> None:
    """Start a layer's latents as the paper does, Glorot-uniform weights (times `spread`) and zero biases."""
    nn.init.xavier_uniform_(weight, gain=spread)
    if bias is not None:
        nn.init.zeros_(bias)


def choose_scheme(
    layer: str, scheme: Scheme | None, values: Values, normalize: Over | None, eps: float, latent_spread: float = 1.0
) -> Scheme:
    """The scheme of a layer: the one given, or the paper's with these options.

    Raises:
        ValueError: an option is unknown or out of range, or is given beside a scheme, which has its own.
    """
    if not latent_spread > 0:
        raise ValueError(f"[{layer}] latent_spread={latent_spread}: use a number above 0")
    if values not in VALUES:
        raise ValueError(f"[{layer}] values={values!r}: use '01' or 'pm1'")
    if normalize is not None and normalize not in OVERS:
        raise ValueError(f"[{layer}] normalize={normalize!r}: use 'channel', 'example', 'batch' or None")
    if scheme is None:
        return BinaryNormalized(MeanThreshold(values), normalize=normalize, eps=eps)
    if not isinstance(scheme, Scheme):
        raise ValueError(f"[{layer}] scheme={scheme!r}: use one of onebit.schemes, such as BinaryNet()")
    if values != "01" or normalize != "channel" or eps != 1e-5:
        raise ValueError(
            f"[{layer}] values, normalize and eps are parts of the scheme: give {type(scheme).__name__}(...) them"
        )
    return scheme


def set_up(layer: Any, scheme: Scheme, inputs: int, outputs: int, axis: int = 0) -> None:
    """Give a layer what it has besides its latents `weight` and `bias`.

    `scheme`: what it is made of. `progress`: how far training has come, 0 to 1, for gradients that change on the way; training sets it.
    `float_weights`: whether the weights are not quantised, but their latents used; training sets it in its first stage, where it has two.
    `output_axis`: the axis of the weight that the outputs are on.
    `normalize`: of its sums, or None. `threshold`: learned, in front of the inputs' signs, (inputs), or None. `gain`: learned, (outputs), or None.
    """
    layer.scheme = scheme
    layer.output_axis = axis
    layer.progress = 0.0
    layer.float_weights = False
    layer.normalize = None
    if scheme.normalize is not None:
        # Statistics lie beside the latents, and in their precision, as in PyTorch's own layers.
        layer.normalize = Normalize(scheme.normalize, outputs, scheme.eps).to(layer.weight.device, layer.weight.dtype)
    layer.threshold = nn.Parameter(layer.weight.new_zeros(inputs)) if scheme.input_shift else None
    layer.gain = nn.Parameter(layer.weight.new_ones(outputs)) if scheme.gain else None


def is_binary(module: nn.Module) -> bool:
    """Whether a module is a binary layer: it has latents, bits and a scheme."""
    return isinstance(getattr(module, "scheme", None), Scheme) and hasattr(module, "bits")


def binary_layers(model: nn.Module) -> dict[str, Any]:
    """The binary layers of a model by their names, in the model's order: what has latents, bits and a scheme."""
    return {name: module for name, module in model.named_modules() if is_binary(module)}


def normalized_inputs(layer: Any, x: Tensor, image: bool) -> Tensor:
    """A layer's inputs, normalised over the channels where its scheme does so."""
    if not layer.scheme.input_normalize:
        return x
    return _normalized(normalize_channel, x, image)


def quantize_inputs(layer: Any, x: Tensor, image: bool) -> Codes:
    """What a layer multiplies its weights with: the inputs, shifted by its learned thresholds and quantised, as its scheme says."""
    if layer.threshold is not None:
        x = x - _channels(layer.threshold.to(x.dtype), x, image)
    if layer.scheme.activations is None:
        return Codes(x)
    axes = tuple(range(1, x.dim())) if image else (-1,)
    return layer.scheme.activations(x, axes, layer.training, layer.progress)


def compute(
    layer: Any,
    x: Tensor,
    product: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    magnitude: Callable[[Tensor], Tensor] | None = None,
    image: bool = False,
    axis: int = 0,
) -> Tensor:
    """What a layer makes of its input: quantise, multiply, scale, normalise, as its scheme says.

    Args:
        layer: has what `set_up` gives.
        x: rows (..., inputs), or an image (batch, inputs, ...).
        product: of inputs, weights and a bias or None.
        magnitude: the mean magnitude of the inputs that each sum is of; by default that of a row.
        image: the channels are axis 1 of x, rather than the last.
        axis: of the weight's outputs.
    """
    scheme: Scheme = layer.scheme
    x = normalized_inputs(layer, x, image)
    factor = None
    if scheme.input_scale:
        factor = x.abs().mean(-1, keepdim=True) if magnitude is None else magnitude(x)
    inputs = quantize_inputs(layer, x, image)
    weights = Codes(layer.weight)
    if not layer.float_weights:
        weights = scheme.weights(layer.weight, axis, layer.training, layer.progress)
    scale = weights.scale
    if layer.gain is not None:
        scale = layer.gain if scale is None else scale * layer.gain
    bias = layer.bias
    if bias is not None and layer.normalize is not None and layer.normalize.over == "batch":
        # The mean over the batch takes it away again. What came back as its gradient would be rounding alone, of which Adam makes whole steps, and
        # the running mean would run after the bits that they flip.
        bias = bias.detach() + 0 * bias
    if bias is not None and scheme.bias == "bits":
        bias = binarize(bias, scheme.weights.values)
    plain = inputs.scale is None and (scheme.bias == "bits" or (scale is None and factor is None))
    # Codes of 16 bits are wider than a bfloat16 layer's weights; its sums are of its own precision again.
    codes = weights.codes if scheme.activations is None else weights.codes.to(inputs.codes.dtype)
    y = product(inputs.codes, codes, bias if plain else None)
    if inputs.scale is not None:
        y = (y * inputs.scale.to(y.dtype)).to(weights.codes.dtype)
        if bias is not None and scheme.bias == "bits":
            y = y + _channels(bias, y, image)
    if scale is not None:
        y = y * _channels(scale.to(y.dtype), y, image)
    if factor is not None:
        y = y * factor.to(y.dtype)
    if bias is not None and scheme.bias == "float" and not plain:
        y = y + _channels(bias.to(y.dtype), y, image)
    if scheme.gradients is not None and y.requires_grad:
        y = quantize_gradient(y, scheme.gradients)
    return y if layer.normalize is None else _normalized(layer.normalize, y, image)


def _channels(v: Tensor, x: Tensor, image: bool) -> Tensor:
    """A number for each channel in a form that is broadcast against x."""
    return v.view(-1, *[1] * (x.dim() - 2)) if image and v.dim() else v


def _normalized(normalize: Callable[[Tensor], Tensor], x: Tensor, image: bool) -> Tensor:
    """Normalise images of any number of axes: `onebit.normalize` takes three and five axes for sequences, whose channels are the last."""
    over = getattr(normalize, "over", "channel")
    if not image or x.dim() == 4 or over == "batch":
        return normalize(x)
    if over == "channel":
        return normalize(x.movedim(1, -1)).movedim(-1, 1)
    return normalize(x.flatten(1)).view_as(x)
