"""The ops of programs that have no bits, in PyTorch. Each is a function of attributes, tensors by role and inputs (n, ...)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from onebit.ops.resize import between, nearest

Attributes = Mapping[str, Any]
Function = Callable[..., Tensor]


def normalized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over several axes together, of sums in float64."""
    wide = x.double()
    mean = wide.mean(axes, keepdim=True)
    variance = (wide - mean).square().mean(axes, keepdim=True)
    return ((wide - mean) / (variance + eps).sqrt()).float()


def _normalize(a: Attributes, t: Any, x: Tensor) -> Tensor:
    return normalized(x, (x.ndim - 1,) if a["over"] == "channel" else tuple(range(1, x.ndim)), a["eps"])


def _group_normalize(a: Attributes, t: Any, x: Tensor) -> Tensor:
    groups = x.reshape(*x.shape[:-1], a["groups"], -1)
    axes = (1, 2, 4) if x.ndim == 4 else (groups.ndim - 1,)
    return normalized(groups, axes, a["eps"]).reshape(x.shape)


def _rms_normalize(a: Attributes, t: Any, x: Tensor) -> Tensor:
    parts = x.reshape(*x.shape[:-1], a.get("groups", 1), -1).double()
    squares = parts.square().mean(-1, keepdim=True)
    root = torch.where(squares.isfinite(), (squares + a["eps"]).sqrt(), math.nan)
    return (parts / root).float().reshape(x.shape)


def _scale_shift(a: Attributes, t: Any, x: Tensor) -> Tensor:
    scaled = x * t["scale"]
    return scaled + t["shift"] if "shift" in t else scaled


def _multiply(a: Attributes, t: Any, x: Tensor, y: Tensor) -> Tensor:
    by_channel = y.ndim == 2 and y.shape[1] == x.shape[-1]
    return x * (y.reshape(len(y), *[1] * (x.ndim - 2), -1) if by_channel else y)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


def _gelu(a: Attributes, t: Any, x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))


def padded(x: Tensor, padding: list[int], value: float = 0) -> Tensor:
    """An image (n, height, width, channels) with [top, bottom, left, right] places around it."""
    top, bottom, left, right = padding
    return F.pad(x, (0, 0, left, right, top, bottom), value=value)


def windows(a: Attributes, x: Tensor, outside: float = 0) -> Tensor:
    """All windows of an image (n, height, width, channels): a view (n, height', width', channels, kh, kw)."""
    (sh, sw), (kh, kw), (dh, dw) = a["stride"], a["kernel_size"], a.get("dilation", (1, 1))
    x = padded(x, a["padding"], outside)
    found = x.unfold(1, dh * (kh - 1) + 1, sh).unfold(2, dw * (kw - 1) + 1, sw)
    return found[..., ::dh, ::dw]


def _avg_pool(a: Attributes, t: Any, x: Tensor) -> Tensor:
    inside = torch.ones_like(x[:1])
    counts = windows(a, inside, 1 if a["count_include_pad"] else 0).sum((-2, -1))
    return (windows(a, x).sum((-2, -1), dtype=torch.float64) / counts).float()


def _mean_magnitude(a: Attributes, t: Any, x: Tensor) -> Tensor:
    means = x.abs().mean(-1, keepdim=True, dtype=torch.float64)
    return (windows(a, means).mean((-2, -1)) if "kernel_size" in a else means).float()


def _flatten(a: Attributes, t: Any, x: Tensor) -> Tensor:
    return (x.permute(0, 3, 1, 2) if a["order"] == "chw" else x).reshape(len(x), -1)


def _slice(a: Attributes, t: Any, x: Tensor) -> Tensor:
    return x.narrow(a["axis"] + 1, a["start"], a["stop"] - a["start"])


def _prepend(a: Attributes, t: Any, x: Tensor) -> Tensor:
    return torch.cat((t["constant"].expand(len(x), -1, -1), x), 1)


def _resize(a: Attributes, t: Any, x: Tensor) -> Tensor:
    sides = list(zip(x.shape[1:3], a["size"], strict=True))

    def on(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(x.device)

    if a["mode"] == "nearest":
        rows, columns = (on(nearest(*side)) for side in sides)
        return x[:, rows][:, :, columns]
    (top, bottom, down), (left, right, across) = (
        (on(part) for part in between(*side, a.get("align_corners", False))) for side in sides
    )
    across, down = across[:, None], down[:, None, None]

    def row(lines: Tensor) -> Tensor:
        image = x[:, lines]
        return (1 - across) * image[:, :, left] + across * image[:, :, right]

    return (1 - down) * row(top) + down * row(bottom)


def attend(a: Attributes, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
    """What queries (n, time, features) take from the values (n, source, kv features) that they see."""
    n, time, features = q.shape
    heads, kv_heads = a["heads"], a.get("kv_heads", a["heads"])

    def split(x: Tensor, heads: int) -> Tensor:
        return x.reshape(n, x.shape[1], heads, -1).transpose(1, 2)  # (n, heads, time, features of a head)

    q, k, v = split(q, heads), split(k, kv_heads), split(v, kv_heads)
    k, v = (x.repeat_interleave(heads // kv_heads, 1) for x in (k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(features // heads)
    if seen is not None:
        scores = scores.masked_fill(~seen, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, time, features)


def _one(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda a, t, x: function(x)


FUNCTIONS: dict[str, Function] = {
    "add": lambda a, t, x, y: x + y,
    "add_constant": lambda a, t, x: x + t["constant"].reshape(x.shape[1:]),
    "avg_pool2d": _avg_pool,
    "clip": lambda a, t, x: x.clamp(a["low"], a["high"]),
    "concatenate": lambda a, t, x, y: torch.cat((x, y), a["axis"] + 1),
    "flatten": _flatten,
    "full_attention": lambda a, t, q, k, v: attend(a, q, k, v, None),
    "gelu": _gelu,
    "group_normalize": _group_normalize,
    "hard_sigmoid": _one(_hard_sigmoid),
    "hard_swish": _one(lambda x: x * _hard_sigmoid(x)),
    "last": _one(lambda x: x[:, -1]),
    "linear": lambda a, t, x: F.linear(x, t["weight"], t.get("bias")),
    "max_pool2d": lambda a, t, x: windows(a, x, -math.inf).amax((-2, -1)),
    "mean_magnitude": _mean_magnitude,
    "mean_pool": _one(lambda x: x.mean(tuple(range(1, x.ndim - 1)), dtype=torch.float64).float()),
    "multiply": _multiply,
    "normalize": _normalize,
    "prelu": lambda a, t, x: torch.where(x > 0, x, x * t["slope"]),
    "prepend": _prepend,
    "relu": _one(torch.relu),
    "relu_squared": _one(lambda x: torch.relu(x).square()),
    "reshape": lambda a, t, x: x.reshape(len(x), *a["shape"]),
    "resize": _resize,
    "rms_normalize": _rms_normalize,
    "rows": _one(lambda x: x.flatten(2)),
    "scale": lambda a, t, x: x * a["factor"],
    "scale_shift": _scale_shift,
    "sigmoid": _one(torch.sigmoid),
    "silu": _one(lambda x: x * torch.sigmoid(x)),
    "slice": _slice,
    "softmax": _one(lambda x: x.softmax(-1)),
    "tanh": _one(torch.tanh),
    "transpose": lambda a, t, x: x.permute(0, *(axis + 1 for axis in a["axes"])),
}
