"""Pooling, and flattening of what is left."""

from __future__ import annotations

from torch import nn

from onebit.packing.handlers import packs
from onebit.packing.layers.conv import pair
from onebit.packing.recorder import Recorder


def _rounds_up(r: Recorder, layer: nn.MaxPool2d | nn.AvgPool2d, x: str) -> bool:
    """Whether `ceil_mode` makes a difference: some windows would lie partly outside the image."""
    if not layer.ceil_mode or len(r.shape(x)) != 3:
        return False
    sizes = zip(r.shape(x), pair(layer.kernel_size), pair(layer.stride), pair(layer.padding), strict=False)
    return any((side + 2 * padding - kernel) % stride for side, kernel, stride, padding in sizes)


def _windows(layer: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, list[int]]:
    vertical, horizontal = pair(layer.padding)
    padding = [vertical, vertical, horizontal, horizontal]
    return {"kernel_size": pair(layer.kernel_size), "stride": pair(layer.stride), "padding": padding}


@packs(nn.MaxPool2d)
def _max_pool(r: Recorder, name: str, layer: nn.MaxPool2d, x: str) -> str:
    if _rounds_up(r, layer, x) or layer.return_indices or pair(layer.dilation) != [1, 1]:
        raise r.fail(
            "MaxPool2d with return_indices or dilation, or with ceil_mode where windows do not fit, cannot be packed"
        )
    return r.step("max_pool2d", [x], {**_windows(layer)})


@packs(nn.AvgPool2d)
def _avg_pool(r: Recorder, name: str, layer: nn.AvgPool2d, x: str) -> str:
    if _rounds_up(r, layer, x) or layer.divisor_override is not None:
        raise r.fail("AvgPool2d with divisor_override, or with ceil_mode where windows do not fit, cannot be packed")
    return r.step("avg_pool2d", [x], {**_windows(layer), "count_include_pad": layer.count_include_pad})


@packs(nn.AdaptiveAvgPool2d)
def _mean_pool(r: Recorder, name: str, layer: nn.AdaptiveAvgPool2d, x: str) -> str:
    if layer.output_size not in (1, (1, 1)):
        raise r.fail(f"AdaptiveAvgPool2d({layer.output_size}) cannot be packed: use output_size=1")
    return r.step("mean_pool", [x])


@packs(nn.Flatten)
def _flatten(r: Recorder, name: str, layer: nn.Flatten, x: str) -> str:
    if layer.start_dim != 1 or layer.end_dim != -1:
        raise r.fail("Flatten must keep the batch axis and flatten all others: use nn.Flatten()")
    return flatten(r, x)


def flatten(r: Recorder, x: str) -> str:
    """Record a flattening to one axis, in PyTorch's order."""
    return r.step("flatten", [x], {"order": "chw" if len(r.shape(x)) == 3 else "hwc"})
