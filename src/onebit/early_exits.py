"""Where inputs end in a network with exits, what that costs, and the threshold that keeps the accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.ops import OPS
from onebit.ops.declared import Bits
from onebit.program import Program, Shape

# What thresholds are tried: at intervals that no accuracy on some thousand images tells apart.
_THRESHOLDS = np.round(np.append(np.arange(0.3, 0.98, 0.04), 0.99), 2)
# Bits of a weight that is not made of planes.
_BITS = {np.dtype(np.float32): 32, np.dtype(np.int8): 8}
_TRANSPOSED = ("conv_transpose2d", "bit_conv_transpose2d")


@dataclass(frozen=True)
class Stage:
    """A place at which inputs end.

    Args:
        planes: the number of bits of a weight that are used there.
        exit: the number of the exit, from 1 on; 0 is the network's end.
        share: of the inputs that end there.
        products: what such an input costs, all stages before included.
    """

    planes: int
    exit: int
    share: float
    products: int


@dataclass(frozen=True)
class Spent:
    """What inputs have cost. `str` is a few lines.

    Args:
        stages: from the cheapest on.
        whole: the products of the whole network, with all planes and without exits.
    """

    stages: tuple[Stage, ...]
    whole: int

    @property
    def products(self) -> float:
        """The mean of the inputs."""
        return sum(stage.share * stage.products for stage in self.stages)

    @property
    def relative(self) -> float:
        """The mean as a share of the whole network's."""
        return self.products / self.whole if self.whole else 0.0

    def to_dict(self) -> dict[str, object]:
        """As plain values."""
        return {
            "products": self.products,
            "relative": self.relative,
            "whole": self.whole,
            "stages": [vars(s) for s in self.stages],
        }

    def __str__(self) -> str:
        lines = [
            f"{self.products:,.0f} products of a bit with an input on average, {100 * self.relative:.1f} % of the whole network's"
        ]
        for stage in self.stages:
            where = "the end" if stage.exit == 0 else f"exit {stage.exit}"
            cost = 100 * stage.products / self.whole if self.whole else 0
            lines.append(
                f"  {100 * stage.share:5.1f} % end at {where} with {stage.planes} planes, at {cost:.1f} % of its products"
            )
        return "\n".join(lines)


def check_confidence(where: str, confidence: object) -> float:
    """A confidence. Raises OnebitError if it is not a number above 0 and at most 1."""
    number = isinstance(confidence, (int, float)) and not isinstance(confidence, bool)
    if not number or not 0 < float(confidence) <= 1:  # type: ignore[arg-type]
        raise OnebitError(f"[{where}] confidence={confidence!r}: use a number above 0, at most 1")
    return float(confidence)  # type: ignore[arg-type]


def products_to_exits(program: Program, shapes: dict[str, Shape]) -> list[int]:
    """The products of a weight's bit with an input, up to each exit and up to the end.

    A weight of float32 counts as 32 bits, one of int8 as 8.
    """
    found, spent = [], 0
    for step in program.steps:
        spent += _products(step.op, step.attributes, shapes[step.inputs[0]], shapes[step.output])
        if step.op == "exit":
            found.append(spent)
    return [*found, spent]


def _products(op: str, attributes: object, x: Shape, y: Shape) -> int:
    weight = next((tensor for tensor in OPS[op].tensors if tensor.role == "weight"), None)
    if weight is None or "embedding" in op:
        return 0
    sizes = OPS[op].sizes(attributes, x)  # type: ignore[arg-type]
    bits = 1 if isinstance(weight, Bits) else _BITS.get(np.dtype(weight.dtype), 32)
    positions = math.prod((x if op in _TRANSPOSED else y)[:-1])
    return bits * positions * weight.parameters(sizes)


def first_exits(certainty: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> NDArray[np.intp]:
    """The first head whose certainty is above a threshold, or its own, (inputs, heads) to (inputs); the last takes what is left."""
    sure = certainty > np.asarray(threshold, np.float32)
    sure[:, -1] = True
    return sure.argmax(1)


def calibrated_thresholds(certainty: NDArray[np.float64], right: NDArray[np.bool_], loss: float = 0.0) -> list[float]:
    """A threshold for each exit, so that inputs end early where they can, and the network is right as often as its end.

    The thresholds fall one by one, each time that which saves the most layers, while the accuracy stays.

    Args:
        certainty: the probability of each head's answer, (inputs, heads), the end last.
        right: whether each answer is right, (inputs, heads).
        loss: the accuracy that may be lost, from 0.

    Returns:
        From 0.3 to 0.99 for each exit; 1 (no early end) where none keeps the accuracy, and for the end.
    """
    heads = right.shape[1]
    thresholds = np.ones(heads)
    if not len(right):
        return thresholds.tolist()
    wanted, rows = right[:, -1].mean() - loss, np.arange(len(right))
    depth = float(heads - 1)
    while True:
        best: tuple[float, int, float] | None = None
        for place in range(heads - 1):
            for value in _THRESHOLDS[thresholds[place] > _THRESHOLDS]:
                tried = thresholds.copy()
                tried[place] = value
                ends = first_exits(certainty, tried)
                mean = float(ends.mean())
                if right[rows, ends].mean() >= wanted and mean < depth and (best is None or mean < best[0]):
                    best = mean, place, float(value)
        if best is None:
            return thresholds.tolist()
        depth, place, thresholds[place] = best


def spent_by(places: Sequence[int], stages: Sequence[tuple[int, int, int]], whole: int) -> Spent:
    """What inputs have cost. `places`: the index of each input's stage; `stages`: planes, exit and products of each."""
    counts = np.bincount(np.asarray(places, int), minlength=len(stages)) / max(1, len(places))
    made = (
        Stage(planes, exit, float(share), products)
        for (planes, exit, products), share in zip(stages, counts, strict=True)
    )
    return Spent(tuple(made), whole)


@dataclass(frozen=True)
class Point:
    """What a network with exits or planes does at one confidence.

    Args:
        confidence: above which an input ends.
        accuracy: the share of right answers.
        spent: what the inputs have cost.
    """

    confidence: float
    accuracy: float
    spent: Spent


def curve(
    certainty: NDArray[np.float64],
    right: NDArray[np.bool_],
    stages: Sequence[tuple[int, int, int]],
    whole: int,
    confidences: Sequence[float],
) -> tuple[Point, ...]:
    """Accuracy and products for each of some confidences.

    Args:
        certainty: the probability of the answer at each stage, (inputs, stages).
        right: whether each answer is right, (inputs, stages).
        stages: planes, exit and products of each, as `spent_by` takes them.
        whole: the products of the whole network.
        confidences: above which inputs end.
    """
    points, rows = [], np.arange(len(right))
    for confidence in confidences:
        places = first_exits(certainty, confidence)
        points.append(Point(confidence, float(right[rows, places].mean()), spent_by(places.tolist(), stages, whole)))
    return tuple(points)
