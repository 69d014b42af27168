"""What a layer will weigh in a packed file: which ops it becomes, without its being packed. The ops say what their tensors weigh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from onebit.nn import BinaryEmbedding, BinaryLayer, BinaryRecurrence, RPReLU
from onebit.ops import OPS


def packed_bytes(module: Any, fresh: Sequence[str], folded: bool) -> int:
    """The bytes of a layer's tensors in a file: of the ops that it becomes, those of their tensors.

    Args:
        module: the layer.
        fresh: the names of its parameters that no layer before has.
        folded: the scale and shift that it begins with take the place of those before it.
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return 0 if folded else _per_channel("scale_shift", module.num_features)
    if isinstance(module, RPReLU):
        channels = module.slope.numel()
        shifts = (1 if folded else 2) * _per_channel("scale_shift", channels)
        return shifts + _per_channel("prelu", channels)
    if not isinstance(module, BinaryLayer):
        return 4 * sum(getattr(module, key).numel() for key in fresh)
    total = _bit_bytes(module, fresh)
    if isinstance(module, BinaryRecurrence):
        return total
    total += sum(_pairs(module)) * _per_channel("scale_shift", _outputs(module))
    if module.threshold is not None and not folded:
        total += _per_channel("scale_shift", module.threshold.numel())
    return total


def _per_channel(op: str, channels: int) -> int:
    return OPS[op].nbytes({"C": channels})


def _bit_bytes(module: BinaryLayer, fresh: Sequence[str]) -> int:
    """The bytes of the op that holds a layer's bits; a convolution's rows are those of a dense layer."""
    scheme = module.scheme
    planes, outputs = list(scheme.weights.planes), _outputs(module)
    roles = {key for key in fresh if key == "weight" or (key == "bias" and scheme.bias == "bits")}
    op, attributes = "bit_linear", {"out_features": outputs, "in_features": module.weight.numel() // outputs}
    if isinstance(module, BinaryEmbedding):
        op, attributes = "bit_embedding", {"rows": len(planes) * len(module.weight), "features": outputs}
    elif isinstance(module, BinaryRecurrence):
        op, attributes = f"bit_{module.kind}", {"hidden": module.hidden_size}
        roles |= {"scale", "shift"}
    return OPS[op].nbytes(OPS[op].sizes({**attributes, "planes": planes}, ()), roles)


def _outputs(module: BinaryLayer) -> int:
    return module.weight.shape[module.output_axis]


def _pairs(module: BinaryLayer) -> tuple[bool, bool]:
    """Whether a scale and a shift stand in front of the multiplication with the inputs' magnitudes, and whether behind it."""
    scheme = module.scheme
    with torch.no_grad():
        tiny = scheme.weights(torch.ones(1, 1), 0, False).scale is not None
    scale = tiny or module.gain is not None
    statistics = module.normalize is not None and module.normalize.over == "batch"
    shift = statistics or (module.bias is not None and scheme.bias == "float")
    return (scale, shift) if scheme.input_scale else (False, scale or shift)


def starts_with_scale_shift(module: Any) -> bool:
    """Whether the first step of a layer folds into a scale and a shift before it."""
    return isinstance(module, (nn.modules.batchnorm._BatchNorm, RPReLU)) or (
        getattr(module, "threshold", None) is not None and not module.scheme.input_normalize
    )


def ends_with_scale_shift(module: Any) -> bool:
    """Whether the last step of a layer is a scale and a shift."""
    if isinstance(module, (nn.modules.batchnorm._BatchNorm, RPReLU)):
        return True
    if not isinstance(module, BinaryLayer) or isinstance(module, BinaryRecurrence):
        return False
    plain = module.normalize is None or module.normalize.over == "batch"
    return plain and _pairs(module)[1]
