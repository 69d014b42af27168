"""Normalisation to zero mean and unit variance, or to unit mean square, without learned parameters.

Means come from exact sums, as if computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onebit.ops.declared import Choice, Integer, Number, Shape
from onebit.ops.op import Array, Attributes, Op, Precision, StepReader, Tensors, channels_of

EPS = Number("eps", True)


def normalized(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) over several axes together, with the biased variance."""
    mean = x.mean(axes, keepdims=True, dtype=np.float64)
    variance = np.square(x - mean).mean(axes, keepdims=True)
    return ((x - mean) / np.sqrt(variance + eps)).astype(np.float32)


class Normalize(Op):
    """Normalise over the last axis, or over a whole example."""

    name = "normalize"
    attributes = (Choice("over", ("channel", "example")), EPS)

    def mixes_tokens(self, attributes: Attributes) -> str:
        example = attributes.get("over") == "example"
        return "over='example' would mix tokens: use 'channel'" if example else ""

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return normalized(x, (x.ndim - 1,) if a["over"] == "channel" else tuple(range(1, x.ndim)), a["eps"])


class GroupNormalize(Op):
    """Normalise over equal groups of channels: over all positions of an image, or within each row of rows."""

    name = "group_normalize"
    attributes = (Integer("groups"), EPS)

    def shape(self, step: StepReader, x: Shape) -> Shape:
        groups = step["groups"]
        step["eps"]
        if len(x) > 3:
            raise step.fail(f"its input has shape {x}: needs (height, width, channels), (rows, features) or (features)")
        if channels_of(step, x) % groups:
            raise step.fail(f"groups={groups} does not divide its {x[-1]} channels")
        return x

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        groups: Any = x.reshape(*x.shape[:-1], a["groups"], -1)  # (n, ..., groups, channels per group)
        axes = (1, 2, 4) if x.ndim == 4 else (groups.ndim - 1,)
        return normalized(groups, axes, a["eps"]).reshape(x.shape)


class RmsNormalize(Op):
    """Divide by the root of the mean square of the last axis, or of each of equal groups of it (arXiv 1910.07467)."""

    name = "rms_normalize"
    attributes = (EPS, Integer("groups", optional=True))

    def shape(self, step: StepReader, x: Shape) -> Shape:
        step["eps"]
        groups = step.get("groups", 1)
        if channels_of(step, x) % groups:
            raise step.fail(f"groups={groups} does not divide its {x[-1]} channels")
        return x

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        parts = x.reshape(*x.shape[:-1], a.get("groups", 1), -1)
        squares = np.square(parts, dtype=np.float64).mean(-1, keepdims=True)
        # An infinity makes all numbers NaN, as in `normalize`.
        root = np.where(np.isfinite(squares), np.sqrt(squares + a["eps"]), np.nan)
        return (parts / root).astype(np.float32).reshape(x.shape)


OPS: tuple[Op, ...] = (Normalize(), GroupNormalize(), RmsNormalize())
