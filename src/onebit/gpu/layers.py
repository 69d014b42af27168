"""The layers of bits and the convolutions, on a device. Sums of levels are exact; docs/program.md defines them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onebit.gpu.functions import Attributes, Function, padded, windows
from onebit.gpu.products import BitMatrix, Levels, in_kernel_order, product, quantize


def bit_linear(a: Attributes, t: Any, precision: str, x: Tensor) -> Tensor:
    """(..., inputs) to (..., outputs)."""
    weight: BitMatrix = t["weight"]
    rows = x.reshape(-1, x.shape[-1])
    if precision == "float32" and "input" not in a:
        y = F.linear(rows, weight.dense(), t.get("bias"))
    else:
        y = product(weight, quantize(rows, a.get("input")), t.get("bias"))
    return y.view(*x.shape[:-1], -1)


def bit_conv2d(a: Attributes, t: Any, precision: str, x: Tensor) -> Tensor:
    """(n, height, width, in) to (n, height', width', out), with one scale for each example."""
    weight: BitMatrix = t["weight"]
    if precision == "float32" and "input" not in a:
        return _convolve(a, x, weight.dense(), t.get("bias"))
    found = quantize(x.reshape(len(x), -1), a.get("input"))
    levels = _in_order(found, x.shape)
    if a["groups"] > 1:
        return _grouped(a, levels, found, weight, t.get("bias"))
    # A padded place has the level 0, whatever was subtracted.
    around = padded(levels.int() - found.offset[:, None, None, None], a["padding"])
    inside = padded(torch.ones_like(levels, dtype=torch.int32), a["padding"])
    shifted = torch.where(inside > 0, around, -found.offset[:, None, None, None]).to(torch.int8)
    patches = windows({**a, "padding": [0] * 4}, shifted).permute(0, 1, 2, 4, 5, 3)  # (n, h, w, kh, kw, in)
    n, height, width = patches.shape[:3]
    rows = patches.reshape(n * height * width, -1)
    offset, scale = (part.repeat_interleave(height * width) for part in (found.offset, found.scale))
    total = rows.sum(1, dtype=torch.int32) + offset * rows.shape[1]
    y = product(weight, Levels(in_kernel_order(rows), scale, offset, total), t.get("bias"))
    return y.view(n, height, width, -1)


def _in_order(found: Levels, shape: torch.Size) -> Tensor:
    """The levels themselves, int32, in the order of the inputs."""
    n, length = shape[0], shape[1:].numel()
    q = found.q.view(n, -1, 8, 4).transpose(2, 3).reshape(n, -1)[:, :length]
    return (q.int() + found.offset[:, None]).view(shape)


def _grouped(a: Attributes, levels: Tensor, found: Levels, weight: BitMatrix, bias: Tensor | None) -> Tensor:
    """Products of few inputs each: float64 holds their sums exactly."""
    sums = _convolve(a, levels.double(), weight.dense().double(), None)
    y = found.scale[:, None, None, None] * sums.float()
    return y if bias is None else y + bias


def _convolve(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    (kh, kw), groups = a["kernel_size"], a["groups"]
    kernel = weight.reshape(a["out_channels"], kh, kw, -1).permute(0, 3, 1, 2)
    image = padded(x, a["padding"]).permute(0, 3, 1, 2)
    y = F.conv2d(image, kernel, None, a["stride"], 0, a["dilation"], groups).permute(0, 2, 3, 1)
    return y if bias is None else y + bias


def conv2d(a: Attributes, t: Any, x: Tensor) -> Tensor:
    """A convolution of floats."""
    return _convolve(a, x, t["weight"], t.get("bias"))


def conv_transpose2d(a: Attributes, t: Any, x: Tensor) -> Tensor:
    """A transposed convolution of floats."""
    (kh, kw), groups = a["kernel_size"], a["groups"]
    outputs = a["out_channels"] // groups
    kernel = t["weight"].view(groups, outputs, kh, kw, -1).permute(0, 4, 1, 2, 3).flatten(0, 1)
    y = F.conv_transpose2d(x.permute(0, 3, 1, 2), kernel, None, a["stride"], 0, a["output_padding"], groups)
    top, bottom, left, right = a["padding"]
    y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right].permute(0, 2, 3, 1)
    return y + t["bias"] if "bias" in t else y


BINARY: dict[str, Function] = {"bit_linear": bit_linear, "bit_conv2d": bit_conv2d}
FLOAT: dict[str, Function] = {"conv2d": conv2d, "conv_transpose2d": conv_transpose2d}
