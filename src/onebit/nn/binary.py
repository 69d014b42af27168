"""The common part of all binary layers: latent weights, a scheme, bits, and the operations around their product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from onebit.nn.normalize import Normalize
from onebit.nn.planes import PlaneNorms, with_planes
from onebit.normalize import normalize_channel
from onebit.quantizers import Codes, Elastic, binarize, quantize_gradient, threshold_bits, weight_planes
from onebit.schemes import Scheme


class Bits(NamedTuple):
    """The bits of a layer: bool tensors of the shapes of its `weight` and `bias`.

    Args:
        weight: in the shape of the weight, or `(planes, *shape)` for a scheme with several bits per weight.
        bias: None if the layer has no bias, or a float one.
    """

    weight: Tensor
    bias: Tensor | None


class BinaryInput(NamedTuple):
    """The quantised inputs of a layer.

    Args:
        codes, scale: see `Codes`.
        magnitude: a factor of each sum that restores the magnitude of its inputs (XNOR-Net's K); None is 1.
    """

    codes: Tensor
    scale: Tensor | None
    magnitude: Tensor | None


class BinaryLayer(nn.Module):
    r"""A mix-in that makes a layer binary. It comes before PyTorch's own layer, which has the latent weights `weight` and `bias`.

    .. math:: y = \operatorname{Normalize}(gain \cdot scale \cdot \operatorname{product}(x_b, W_b) + b)

    A new layer defines `product`, sets `scheme` before the latent weights are initialised, and then calls `set_up`.
    """

    output_axis: ClassVar[int] = 0  # the axis of the outputs in the weight
    of_images: ClassVar[bool] = False  # whether the channels of inputs and outputs are axis 1 instead of the last
    converted_from: type[nn.Module] | None = None  # the type before `onebit.convert`

    weight: Any  # nn.Parameter; PyTorch's layers declare it in different ways
    bias: Any  # nn.Parameter | None
    scheme: Scheme
    progress: float  # the progress of training, 0 to 1, for gradients that change; training sets it
    float_weights: bool  # use the latent weights instead of their bits; training sets it in the first of two stages
    normalize: Normalize | PlaneNorms | None  # of the sums
    threshold: nn.Parameter | None  # learned, before the inputs' signs, (inputs)
    gain: nn.Parameter | None  # learned, (outputs)

    def fitting(self, scheme: Scheme) -> Scheme:
        """The scheme for a layer with these options. Raises ValueError if it does not fit one of them."""
        return scheme

    def set_up(self) -> None:
        """Add the other members of a binary layer to one with latent weights and a scheme. `strip` removes them."""
        scheme = self.scheme = self.fitting(self.scheme)
        outputs = self.weight.shape[self.output_axis]
        inputs = self.weight.shape[1 - self.output_axis] * getattr(self, "groups", 1)
        self.progress = 0.0
        self.float_weights = False
        self.normalize = None
        if scheme.normalize is not None:
            # Statistics have the device and the precision of the latent weights, as in PyTorch's own layers.
            over, eps = scheme.normalize, scheme.eps
            made = (
                Normalize(over, outputs, eps)
                if over != "batch"
                else with_planes(scheme.weights, lambda: Normalize(over, outputs, eps))
            )
            self.normalize = made.to(self.weight.device, self.weight.dtype)  # type: ignore[assignment]
        self.threshold = nn.Parameter(self.weight.new_zeros(inputs)) if scheme.input_shift else None
        self.gain = None
        if isinstance(scheme.weights, Elastic):
            self.gain = nn.Parameter(scheme.weights.first_scale(self.weight, self.output_axis))
        elif scheme.gain:
            self.gain = nn.Parameter(self.weight.new_ones(outputs))

    def strip(self) -> None:
        """Remove the members that a float layer does not have."""
        own = ("scheme", "progress", "float_weights", "normalize", "threshold", "gain", "converted_from")
        for name in own:
            if name in self.__dict__ or name in self._parameters or name in self._modules:
                delattr(self, name)

    def reset_parameters(self) -> None:
        """Initialise the latent weights as in the paper: Glorot-uniform weights, times the scheme's `latent_spread`, and zero biases."""
        nn.init.xavier_uniform_(self.weight, gain=self.scheme.latent_spread)
        bias = getattr(self, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)

    def bits(self) -> Bits:
        """The bits of the latent weights, detached from the graph."""
        with torch.no_grad():
            planes = weight_planes(self.scheme.weights, self.weight, self.output_axis)[0]
            bias = None if self.bias is None or self.scheme.bias == "float" else threshold_bits(self.bias)
            return Bits(planes[0] if len(planes) == 1 else planes, bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's linear function, which is PyTorch's own."""
        raise NotImplementedError

    def input_magnitude(self, x: Tensor) -> Tensor:
        """The mean magnitude of the inputs of each sum."""
        return x.abs().mean(-1, keepdim=True)

    def normalized_input(self, x: Tensor) -> Tensor:
        """The inputs, normalised over the channels if the scheme says so."""
        scheme = self.scheme
        return self._normalized(partial(normalize_channel, eps=scheme.eps), x) if scheme.input_normalize else x

    def input_codes(self, x: Tensor) -> Codes:
        """The inputs, shifted by learned thresholds and quantized, as the scheme says."""
        if self.threshold is not None:
            x = x - self._on_channels(self.threshold.to(x.dtype), x)
        if self.scheme.activations is None:
            return Codes(x)
        axes = tuple(range(1, x.dim())) if self.of_images else (-1,)
        return self.scheme.activations(x, axes, self.training, self.progress)

    def binary_input(self, x: Tensor) -> BinaryInput:
        """The factor of the weights: the inputs, normalised, shifted and quantised."""
        x = self.normalized_input(x)
        magnitude = self.input_magnitude(x) if self.scheme.input_scale else None
        return BinaryInput(*self.input_codes(x), magnitude)

    def weight_codes(self) -> Codes:
        """The codes of the weights and their scale. In a stage of training with float weights, they are the latent weights."""
        return Codes(self.weight) if self.float_weights else self.quantized(self.weight, self.training)

    def quantized(self, w: Tensor, training: bool) -> Codes:
        """The codes of latent weights and their scale. In training they and their gradient are those of the scheme's estimator."""
        weights, estimator = self.scheme.weights, self.scheme.estimator
        if training and isinstance(weights, Elastic) and self.gain is not None:
            w = weights.bounded(w, self.gain, self.output_axis)
        if training and estimator is not None:
            return estimator(weights, w, self.output_axis, self.progress)
        return weights(w, self.output_axis, training, self.progress)

    def binary_weight(self) -> Codes:
        """The weights of the forward pass, and the factor of their sums: their scale and the learned gain."""
        codes, scale = self.weight_codes()
        if self.gain is not None:
            gain = Elastic.eased(self.gain, self.weight) if self.scheme.weights.learned_scale else self.gain
            scale = gain if scale is None else scale * gain
        return Codes(codes, scale)

    def binary_bias(self) -> Tensor | None:
        """The bias of the forward pass, bits or floats."""
        bias: Tensor | None = self.bias
        if bias is not None and self.normalize is not None and self.normalize.over == "batch":
            # The mean over the batch removes the bias again. Its gradient would be only rounding errors. Adam turns these into whole steps, and the
            # running mean would follow the bits that they flip.
            bias = _with_zero_gradient(bias)
        if bias is not None and self.scheme.bias == "bits":
            bias = binarize(bias, self.scheme.weights.values)
        return bias

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self._scale_goes_into_weights():
            return self._with_scaled_weights(self.normalized_input(x))
        x_b, w_b, bias = self.binary_input(x), self.binary_weight(), self.binary_bias()
        # A bias of bits is added to the sums of bits, a float bias to the scaled sums.
        unscaled = w_b.scale is None and x_b.magnitude is None
        at_once = x_b.scale is None and (self.scheme.bias == "bits" or unscaled)
        # 16-bit codes are wider than the weights of a bfloat16 layer.
        codes = w_b.codes if self.scheme.activations is None else w_b.codes.to(x_b.codes.dtype)
        y = self.product(x_b.codes, codes, bias if at_once else None)
        return self.finish(y, x_b, w_b, None if at_once else bias)

    def _scale_goes_into_weights(self) -> bool:
        scheme = self.scheme
        floats = scheme.activations is None and (self.bias is None or scheme.bias == "float")
        return floats and scheme.gradients is None and not scheme.input_scale

    def _with_scaled_weights(self, x: Tensor) -> Tensor:
        """What `forward` computes for float inputs, with the scale in the weights rather than on the sums.

        Training has more sums than weights. So this saves several passes over them, forwards and backwards: a tenth of a decoder's step.
        """
        weight, scale = self.binary_weight()
        if scale is not None:
            shape = [1] * weight.dim()
            shape[self.output_axis] = -1
            weight = weight * (scale.view(shape) if scale.dim() else scale).to(weight.dtype)
        y = self.product(x, weight, self.binary_bias())
        return y if self.normalize is None else self._normalized(self.normalize, y)

    def finish(self, y: Tensor, x_b: BinaryInput, w_b: Codes, bias: Tensor | None) -> Tensor:
        """Turn sums of codes into the layer's output: scale them, add a bias that is not in them yet, normalise."""
        bits = self.scheme.bias == "bits"
        if x_b.scale is not None:
            y = (y * x_b.scale.to(y.dtype)).to(w_b.codes.dtype)
        if bias is not None and bits:
            y = y + self._on_channels(bias, y)
        if w_b.scale is not None:
            y = y * self._on_channels(w_b.scale.to(y.dtype), y)
        if x_b.magnitude is not None:
            y = y * x_b.magnitude.to(y.dtype)
        if bias is not None and not bits:
            y = y + self._on_channels(bias.to(y.dtype), y)
        if self.scheme.gradients is not None and y.requires_grad:
            y = quantize_gradient(y, self.scheme.gradients)
        return y if self.normalize is None else self._normalized(self.normalize, y)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scheme={self.scheme}"

    def _on_channels(self, v: Tensor, x: Tensor) -> Tensor:
        """One number per channel, in a shape that broadcasts against x."""
        return v.view(-1, *[1] * (x.dim() - 2)) if self.of_images and v.dim() else v

    def _normalized(self, normalize: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Normalise images with any number of axes. `onebit.normalize` would take three and five axes for sequences with channels last.

        Batch statistics are over all rows: the rows of a sequence count as examples.
        """
        over = getattr(normalize, "over", "channel")
        if over == "batch" and not self.of_images and x.dim() > 2:
            return normalize(x.flatten(0, -2)).view(x.shape)
        if not self.of_images or x.dim() == 4 or over == "batch":
            return normalize(x)
        if over == "channel":
            return normalize(x.movedim(1, -1)).movedim(-1, 1)
        return normalize(x.flatten(1)).view_as(x)


def _with_zero_gradient(x: Tensor) -> Tensor:
    """The same numbers with a gradient of zeros instead of None."""
    return x.detach() + 0 * x


def binary_layers(model: nn.Module) -> dict[str, BinaryLayer]:
    """The binary layers of a model by name, in the model's order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}


def all_finite(latent: Tensor) -> bool:
    """Whether all elements are finite. A tensor without data counts as finite."""
    with torch.no_grad():
        # A sum is much faster than a look at each element. A sum that is not finite may have overflowed; only then look at each.
        return latent.is_meta or bool(torch.isfinite(latent.sum())) or bool(torch.isfinite(latent).all())
