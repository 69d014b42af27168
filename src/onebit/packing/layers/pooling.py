"""Pooling, up-sampling, and flattening of what is left."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from onebit.packing.handlers import pack_layer, packs
from onebit.packing.layers.conv import of_line, pair, to_line
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


@packs(nn.MaxPool1d, nn.AvgPool1d)
def _pool_of_line(r: Recorder, name: str, layer: Any, x: str) -> str:
    """Of a sequence, as of an image of one column."""
    if isinstance(layer, nn.MaxPool1d):
        of_image: nn.Module = nn.MaxPool2d(
            (_only(layer.kernel_size), 1), (_only(layer.stride), 1), (_only(layer.padding), 0), _only(layer.dilation),
            layer.return_indices, layer.ceil_mode,
        )  # fmt: skip
    else:
        sizes = ((_only(layer.kernel_size), 1), (_only(layer.stride), 1), (_only(layer.padding), 0))
        of_image = nn.AvgPool2d(*sizes, layer.ceil_mode, layer.count_include_pad)
    return to_line(r, pack_layer(r, name, of_image, of_line(r, x)))


def _only(value: Any) -> int:
    return int(value[0]) if isinstance(value, (tuple, list)) else int(value)


@packs(nn.AdaptiveAvgPool1d)
def _mean_pool_of_line(r: Recorder, name: str, layer: nn.AdaptiveAvgPool1d, x: str) -> str:
    if layer.output_size not in (1, (1,)):
        raise r.fail(f"AdaptiveAvgPool1d({layer.output_size}) cannot be packed: use output_size=1")
    return r.step("mean_pool", [x])


@packs(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
def _all_max_pool(r: Recorder, name: str, layer: Any, x: str) -> str:
    if layer.output_size not in (1, (1,), (1, 1)) or layer.return_indices:
        raise r.fail(f"{type(layer).__name__}({layer.output_size}) cannot be packed: use output_size=1")
    return largest(r, x)


def largest(r: Recorder, x: str) -> str:
    """Record the maximum over all positions of an image or of a sequence, of each channel."""
    height, width = r.shape(x)[:2] if len(r.shape(x)) == 3 else (r.shape(x)[0], 1)
    image = x if len(r.shape(x)) == 3 else r.step("reshape", [x], {"shape": [height, 1, r.shape(x)[-1]]})
    window = {"kernel_size": [height, width], "stride": [1, 1], "padding": [0, 0, 0, 0]}
    return r.step("flatten", [r.step("max_pool2d", [image], window)], {"order": "hwc"})


@packs(nn.Upsample)
def _upsample(r: Recorder, name: str, layer: nn.Upsample, x: str) -> str:
    shape = r.shape(x)
    if len(shape) != 3 or layer.mode not in ("nearest", "bilinear") or layer.recompute_scale_factor:
        raise r.fail(f"Upsample(mode={layer.mode!r}) cannot be packed: use 'nearest' or 'bilinear' of images")
    if layer.size is not None:
        size = pair(layer.size)
    else:
        given = layer.scale_factor or 1.0
        factors = given if isinstance(given, tuple) else (given, given)
        size = [math.floor(side * factor) for side, factor in zip(shape, factors, strict=False)]
        if any(side * factor != new for side, factor, new in zip(shape, factors, size, strict=False)):
            raise r.fail(
                f"Upsample(scale_factor={layer.scale_factor}) of an image of {shape[:2]} cannot be packed: use whole sizes"
            )
    attributes: dict[str, Any] = {"size": size, "mode": layer.mode}
    if layer.mode == "bilinear":
        attributes["align_corners"] = bool(layer.align_corners)
    return r.step("resize", [x], attributes)


@packs(nn.Flatten)
def _flatten(r: Recorder, name: str, layer: nn.Flatten, x: str) -> str:
    if layer.start_dim != 1 or layer.end_dim != -1:
        raise r.fail("Flatten must keep the batch axis and flatten all others: use nn.Flatten()")
    return flatten(r, x)


def flatten(r: Recorder, x: str) -> str:
    """Record a flattening to one axis, in PyTorch's order."""
    return r.step("flatten", [x], {"order": "chw" if len(r.shape(x)) == 3 else "hwc"})
