"""Values in the order that a step needs: axes moved, shapes settled."""

from __future__ import annotations

import math

from onebit.packing.recorder import Recorder
from onebit.packing.values import BATCH, Axes, Value
from onebit.program import Shape

MOST_AXES = 4


def reshaped(r: Recorder, name: str, shape: Shape) -> str:
    """The numbers of a value in another shape, by a step where it is another."""
    if r.shape(name) == shape:
        return name
    if r.tokens:
        raise r.fail("a change of shape that is not undone cannot be packed over tokens: keep (batch, time, features)")
    if len(shape) == 1:
        return r.step("flatten", [name], {"order": "hwc"})
    if len(shape) > MOST_AXES:
        raise r.fail(f"a value of {len(shape)} axes without the batch cannot be packed: use at most {MOST_AXES}")
    return r.step("reshape", [name], {"shape": list(shape)})


def settled(r: Recorder, value: Value) -> str:
    """The name of a value of the program that has the shape that is seen."""
    return reshaped(r, value.name, value.shape)


def arranged(r: Recorder, value: Value, axes: Axes) -> Value:
    """The same tensor with its axes in another order in the program."""
    if value.axes == axes:
        return value
    if len(value.axes) != len(axes) or value.axes.index(BATCH) != axes.index(BATCH):
        raise r.fail(
            f"a tensor of shape {value.spelled()} cannot be packed here: needs {len(axes)} axes, the batch first"
        )
    order = [0] * len(value.shape)
    for old, new in zip(value.axes, axes, strict=True):
        if new != BATCH:
            order[new] = old
    shape = tuple(value.shape[old] for old in order)
    return Value(_transposed(r, value, order), shape, axes)


def _transposed(r: Recorder, value: Value, order: list[int]) -> str:
    """The numbers with their axes in this order. Axes of length one move nothing, and those that stay neighbours move as one."""
    long = [axis for axis in range(len(value.shape)) if value.shape[axis] != 1]
    moving = [axis for axis in order if value.shape[axis] != 1]
    runs: list[list[int]] = []
    for axis in moving:
        if runs and long.index(runs[-1][-1]) + 1 == long.index(axis):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) < 2:
        return value.name
    places = sorted(range(len(runs)), key=lambda i: runs[i][0])  # the runs in the input's order
    lengths = [math.prod(value.shape[axis] for axis in run) for run in runs]
    name = reshaped(r, value.name, tuple(lengths[i] for i in places))
    if r.tokens:
        raise r.fail("an order of axes other than (batch, time, features) cannot be packed over tokens")
    return r.step("transpose", [name], {"axes": [places.index(i) for i in range(len(runs))]})


def channels_first(r: Recorder, value: Value) -> Value:
    """For layers of volumes, of images, of sequences with channels first, or of vectors: channels last in the program."""
    count = len(value.axes) - 1
    if not 1 <= count <= MOST_AXES:
        raise r.fail(
            f"a tensor of shape {value.spelled()} cannot be packed here: needs (batch, channels, ...), of at most {MOST_AXES + 1} axes"
        )
    return arranged(r, value, (BATCH, count - 1, *range(count - 1)))


def in_order(r: Recorder, value: Value) -> Value:
    """With the axes in PyTorch's order."""
    return arranged(r, value, (BATCH, *range(len(value.axes) - 1)))


def features_last(r: Recorder, value: Value) -> Value:
    """With the last axis of PyTorch's as the last in the program, whatever the others are."""
    return value if value.axes[-1] == len(value.shape) - 1 else in_order(r, value)


def rows_of(r: Recorder, value: Value) -> str:
    """The name of a value whose last axis is that which is seen, whatever its others are."""
    return value.name if r.shape(value.name)[-1:] == value.shape[-1:] else settled(r, value)
