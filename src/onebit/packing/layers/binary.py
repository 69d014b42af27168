"""The steps of a binary layer: what its scheme does to the inputs, the product with bits, and what is done to the sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from onebit.nn import BinaryLayer
from onebit.packing.layers.norm import Floats, floats, normalized, scaled
from onebit.packing.recorder import Recorder
from onebit.quantizers import VALUES, threshold_bits, weight_planes

WHOLE = (slice(None),)


class Product(NamedTuple):
    """The op of a product with bits.

    Args:
        op: its name.
        attributes: those of its shape.
        weight: the bits as a matrix, (planes x outputs, inputs of each).
    """

    op: str
    attributes: dict[str, Any]
    weight: Tensor


def with_gain(scale: Tensor | None, gain: Tensor | None) -> Floats | None:
    """The scale of a layer's codes, () or (outputs), with its learned gain; None where there is neither."""
    if gain is not None:
        scale = gain.detach() if scale is None else scale * gain.detach()
    return None if scale is None else scale.cpu().numpy()


def binary_steps(
    r: Recorder,
    name: str,
    layer: BinaryLayer,
    x: str,
    product: Callable[[Tensor], Product],
    window: dict[str, Any] | None = None,
    parts: Sequence[slice] = WHOLE,
) -> list[str]:
    """Record a layer that has a scheme.

    Args:
        product: the op for bits (planes, outputs, ...), in the order of the layer's weight.
        window: the attributes of the windows in which a convolution takes its inputs' magnitudes.
        parts: some of its outputs at a time; the names of several parts are the layer's with a number.

    Returns:
        The names of the outputs, one for each part.
    """
    scheme = layer.scheme
    if scheme.input_normalize:
        x = r.step("normalize", [x], {"over": "channel", "eps": scheme.eps})
    factor = r.step("mean_magnitude", [x], window or {}) if scheme.input_scale else None
    if layer.threshold is not None:
        shift = -floats(layer.threshold)
        x = r.scale_shift(x, np.ones_like(shift), shift, f"{name}.threshold", "learned thresholds")
    if layer.normalize is not None and len(parts) > 1:
        raise r.fail(
            f"{name} normalises over several projections at once, which cannot be packed: use a scheme without `normalize`, such as BitNet()"
        )
    planes, scale = weight_planes(scheme.weights, layer.weight, layer.output_axis)
    planes = planes.movedim(1 + layer.output_axis, 1)  # (planes, out, ...)
    factors = with_gain(scale, layer.gain)
    results = []
    for number, part in enumerate(parts):
        own = f"{name}.{number}" if len(parts) > 1 else name
        y = _product_step(r, own, layer, x, product(planes[:, part]), part)
        multiplier = None if factors is None else np.broadcast_to(factors, (planes.shape[1],))[part]
        bias = floats(layer.bias)[part] if layer.bias is not None and scheme.bias == "float" else None
        if factor is None:
            y = scaled(r, own, y, multiplier, bias, scheme.weights.constant_scale and layer.gain is None)
        else:
            y = r.step("multiply", [scaled(r, f"{own}.weight", y, multiplier, None), factor])
            y = scaled(r, f"{own}.bias", y, None, bias)
        results.append(y if layer.normalize is None else normalized(r, f"{name}.normalize", layer.normalize, y))
    return results


def _product_step(r: Recorder, name: str, layer: BinaryLayer, x: str, product: Product, part: slice) -> str:
    """The product with bits, and their bias."""
    scheme = layer.scheme
    attributes = {**product.attributes, "values": VALUES[scheme.weights.values]}
    if len(scheme.weights.planes) > 1:
        attributes["planes"] = list(scheme.weights.planes)
    if scheme.activations is not None:
        attributes["input"] = scheme.activations.describe()
    tensors = {"weight": r.bit_tensor(f"{name}.weight", layer.weight, product.weight)}
    if layer.bias is not None and scheme.bias == "bits":
        bits = threshold_bits(layer.bias)[None, part]
        tensors["bias"] = r.bit_tensor(f"{name}.bias", layer.bias, bits)
    return r.step(product.op, [x], attributes, **tensors)
