"""Sums and products of a tensor with constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from onebit.packing.layouts import settled
from onebit.packing.recorder import Recorder
from onebit.packing.values import BATCH, Value


def affine(r: Recorder, x: Value, scale: Any, shift: Any) -> Value:
    """Numbers, or tensors with one for each channel, as a scale and a shift; other tensors are added whole."""
    if not isinstance(x, Value):
        raise r.fail("a sum with scores of an attention, such as a mask or a bias of positions, cannot be packed")
    given = scale if shift is None else shift
    values = given.detach().float().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given, np.float32)
    x, numbers = _by_channel(r, x, values)
    if numbers is None:
        if shift is None:
            raise r.fail(
                f"a product with a tensor of shape {values.shape} cannot be packed: use a number, or one for each channel"
            )
        return with_constant(r, x, values)
    ones, zeros = np.ones(len(numbers), np.float32), np.zeros(len(numbers), np.float32)
    scales, shifts = (numbers, zeros) if shift is None else (ones, numbers)
    return x.renamed(r.scale_shift(x.name, scales, shifts, r.unique(), "constants"))


def _by_channel(r: Recorder, x: Value, values: Any) -> tuple[Value, Any]:
    """A number for each place of the last axis of a value; None where a constant has others."""
    channels = r.shape(x.name)[-1]
    if values.size == 1:
        return x, np.full(channels, values.reshape(-1)[0], np.float32)
    aligned = (1,) * (len(x.axes) - values.ndim) + values.shape
    last = x.axes.index(len(x.shape) - 1) if len(x.axes) == len(aligned) else -1
    if last < 0 or any(n != 1 for axis, n in enumerate(aligned) if axis != last) or aligned[last] != x.shape[-1]:
        return x, None
    if channels != x.shape[-1]:
        x = x.renamed(settled(r, x))
    return x, values.reshape(-1)


def with_constant(r: Recorder, x: Value, constant: Any) -> Value:
    """A tensor plus a constant of its shape, such as learned positions."""
    values = constant.detach().float().cpu().numpy() if isinstance(constant, Tensor) else constant
    aligned = values.reshape((1,) * (len(x.axes) - values.ndim) + values.shape)
    lengths = [1 if n is None else n for n in x.lengths]
    fits = aligned.ndim == len(lengths) and all(
        n in (1, wanted) for n, wanted in zip(aligned.shape, lengths, strict=True)
    )
    if not fits or x.axes[0] != BATCH:
        raise r.fail(f"a tensor of shape {values.shape} plus one of {x.spelled()} cannot be packed")
    whole = np.broadcast_to(aligned, lengths)[0]
    order = [x.axes[1:].index(place) for place in range(len(x.shape))]
    rows = np.ascontiguousarray(whole.transpose(order)).reshape(-1, r.shape(x.name)[-1])
    name = r.float_tensor(f"{r.unique()}.constant", rows, "a constant for each place")
    return x.renamed(r.step("add_constant", [x.name], constant=name))
