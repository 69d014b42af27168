"""A binary layer: latents, a scheme, the bits that compute, and the work before and after their product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from onebit.nn.normalize import Normalize
from onebit.normalize import normalize_channel
from onebit.quantizers import Codes, binarize, quantize_gradient, threshold_bits, weight_planes
from onebit.schemes import Scheme


class Bits(NamedTuple):
    """The bits of a layer: bool tensors of the shapes of its `weight` and `bias`.

    Args:
        weight: of the shape of the weight; of a scheme with several bits a weight, `(planes, *shape)`.
        bias: None where the layer has none, or a float one.
    """

    weight: Tensor
    bias: Tensor | None


class BinaryInput(NamedTuple):
    """What a layer multiplies its weights with.

    Args:
        codes, scale: see `Codes`.
        magnitude: factor of each sum that restores the magnitude of its inputs (XNOR-Net's K); None is 1.
    """

    codes: Tensor
    scale: Tensor | None
    magnitude: Tensor | None


class BinaryLayer(nn.Module):
    r"""A layer that computes with bits; a mix-in before PyTorch's own layer, which brings the latents `weight` and `bias`.

    .. math:: y = \operatorname{Normalize}(gain \cdot scale \cdot \operatorname{product}(x_b, W_b) + b)

    A new layer defines `product`, sets `scheme` before the latents are initialised, and calls `set_up` after that.
    """

    output_axis: ClassVar[int] = 0  # of the weight
    of_images: ClassVar[bool] = False  # the channels of inputs and outputs are axis 1 rather than the last axis
    converted_from: type[nn.Module] | None = None  # the type that `onebit.convert` found

    weight: Any  # nn.Parameter; PyTorch's layers declare it in different ways
    bias: Any  # nn.Parameter | None
    scheme: Scheme
    progress: float  # share of training that is done, 0 to 1, for gradients that change; training sets it
    float_weights: (
        bool  # the latents compute instead of their bits; training sets it in its first stage, where it has two
    )
    normalize: Normalize | None  # of the sums
    threshold: nn.Parameter | None  # learned, before the inputs' signs, (inputs)
    gain: nn.Parameter | None  # learned, (outputs)

    def fitting(self, scheme: Scheme) -> Scheme:
        """The scheme as this layer uses it; raises ValueError where the scheme does not fit its options."""
        return scheme

    def set_up(self) -> None:
        """Add what a scheme needs besides the latents: normalisation, threshold, gain. `strip` removes it again."""
        scheme = self.scheme = self.fitting(self.scheme)
        outputs = self.weight.shape[self.output_axis]
        inputs = self.weight.shape[1 - self.output_axis] * getattr(self, "groups", 1)
        self.progress = 0.0
        self.float_weights = False
        self.normalize = None
        if scheme.normalize is not None:
            # Statistics are on the latents' device and in their precision, as in PyTorch's own layers.
            self.normalize = Normalize(scheme.normalize, outputs, scheme.eps).to(self.weight.device, self.weight.dtype)
        self.threshold = nn.Parameter(self.weight.new_zeros(inputs)) if scheme.input_shift else None
        self.gain = nn.Parameter(self.weight.new_ones(outputs)) if scheme.gain else None

    def strip(self) -> None:
        """Remove what a float layer does not have."""
        own = ("scheme", "progress", "float_weights", "normalize", "threshold", "gain", "converted_from")
        for name in own:
            if name in self.__dict__ or name in self._parameters or name in self._modules:
                delattr(self, name)

    def reset_parameters(self) -> None:
        """Start the latents as the paper does: Glorot-uniform weights, times the scheme's `latent_spread`, and zero biases."""
        nn.init.xavier_uniform_(self.weight, gain=self.scheme.latent_spread)
        bias = getattr(self, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)

    def bits(self) -> Bits:
        """The bits of the latents, detached from the graph."""
        with torch.no_grad():
            planes = weight_planes(self.scheme.weights, self.weight, self.output_axis)[0]
            bias = None if self.bias is None or self.scheme.bias == "float" else threshold_bits(self.bias)
            return Bits(planes[0] if len(planes) == 1 else planes, bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's arithmetic: PyTorch's own function."""
        raise NotImplementedError

    def input_magnitude(self, x: Tensor) -> Tensor:
        """The mean magnitude of the inputs that each sum is of."""
        return x.abs().mean(-1, keepdim=True)

    def normalized_input(self, x: Tensor) -> Tensor:
        """The inputs, normalised over the channels where the scheme does so."""
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
        """What the weights are multiplied with: inputs normalised, shifted, quantized."""
        x = self.normalized_input(x)
        magnitude = self.input_magnitude(x) if self.scheme.input_scale else None
        return BinaryInput(*self.input_codes(x), magnitude)

    def weight_codes(self) -> Codes:
        """The codes of the weights and their scale; the latents themselves in a stage of training that has float weights."""
        if self.float_weights:
            return Codes(self.weight)
        return self.scheme.weights(self.weight, self.output_axis, self.training, self.progress)

    def binary_weight(self) -> Codes:
        """The weights that compute, and what their sums are multiplied with: their scale and the learned gain."""
        codes, scale = self.weight_codes()
        if self.gain is not None:
            scale = self.gain if scale is None else scale * self.gain
        return Codes(codes, scale)

    def binary_bias(self) -> Tensor | None:
        """The bias that computes, bits or floats."""
        bias: Tensor | None = self.bias
        if bias is not None and self.normalize is not None and self.normalize.over == "batch":
            # Subtracting the mean over the batch removes the bias. Its gradient would be rounding errors, from which Adam makes whole steps, and the
            # running mean would follow the bits that they flip.
            bias = _with_zero_gradient(bias)
        if bias is not None and self.scheme.bias == "bits":
            bias = binarize(bias, self.scheme.weights.values)
        return bias

    def forward(self, x: Tensor) -> Tensor:
        x_b, w_b, bias = self.binary_input(x), self.binary_weight(), self.binary_bias()
        # Bits are added to sums of bits, floats to sums that are scaled.
        unscaled = w_b.scale is None and x_b.magnitude is None
        at_once = x_b.scale is None and (self.scheme.bias == "bits" or unscaled)
        # Codes of 16 bits are wider than a bfloat16 layer's weights.
        codes = w_b.codes if self.scheme.activations is None else w_b.codes.to(x_b.codes.dtype)
        y = self.product(x_b.codes, codes, bias if at_once else None)
        return self.finish(y, x_b, w_b, None if at_once else bias)

    def finish(self, y: Tensor, x_b: BinaryInput, w_b: Codes, bias: Tensor | None) -> Tensor:
        """Sums of codes to the layer's output: scaled, the bias added where it is not in them yet, normalised."""
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
        """A number for each channel in a form that is broadcast against x."""
        return v.view(-1, *[1] * (x.dim() - 2)) if self.of_images and v.dim() else v

    def _normalized(self, normalize: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Normalise images of any number of axes: `onebit.normalize` takes three and five axes for sequences, whose channels are the last.

        Statistics over the batch are over all rows: those of a sequence count as examples.
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
    """The same numbers, with a gradient of zeros instead of no gradient."""
    return x.detach() + 0 * x


def binary_layers(model: nn.Module) -> dict[str, BinaryLayer]:
    """The binary layers of a model by their names, in the model's order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BinaryLayer)}


def all_finite(latent: Tensor) -> bool:
    """Whether all elements are finite. A tensor without data passes: nothing is known of it."""
    with torch.no_grad():
        # A sum is many times faster than a test of each element. A sum that is not finite may have overflowed: then test each.
        return latent.is_meta or bool(torch.isfinite(latent.sum())) or bool(torch.isfinite(latent).all())
