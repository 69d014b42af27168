"""What becomes of functions that move, select and join numbers. Most of them need no step: a value remembers how it is seen."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onebit.packing.handlers import packs_function, packs_value
from onebit.packing.layouts import arranged, in_order, reshaped, settled
from onebit.packing.recorder import Recorder
from onebit.packing.values import BATCH, Pair, Size, Value


def axis_of(r: Recorder, value: Value, axis: Any, more: int = 0) -> int:
    """An axis of PyTorch's tensor, counted from the first."""
    count = len(value.axes) + more
    if not isinstance(axis, int) or not -count <= axis < count:
        raise r.fail(f"the axis {axis} cannot be packed: the tensor has shape {value.spelled()}")
    return axis % count


def _inner_axis(r: Recorder, value: Value, axis: Any) -> int:
    """The place in the program of an axis that is not the batch."""
    place = value.axes[axis_of(r, value, axis)]
    if place == BATCH:
        raise r.fail("an operation along the batch cannot be packed")
    return place


# Order


@packs_function("transpose", torch.transpose, torch.swapaxes, "transpose", "swapaxes")
def _transpose(r: Recorder, input: Value, dim0: int, dim1: int) -> Value:
    axes, first, second = list(input.axes), axis_of(r, input, dim0), axis_of(r, input, dim1)
    axes[first], axes[second] = axes[second], axes[first]
    return Value(input.name, input.shape, tuple(axes))


@packs_function("permute", torch.permute, "permute")
def _permute(r: Recorder, input: Value, *dims: Any) -> Value:
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], (list, tuple)) else dims
    places = [axis_of(r, input, axis) for axis in order]
    if sorted(places) != list(range(len(input.axes))):
        raise r.fail(f"permute{tuple(order)} does not fit a tensor of shape {input.spelled()}")
    return Value(input.name, input.shape, tuple(input.axes[place] for place in places))


# Shape


def viewed(r: Recorder, value: Value, sizes: Sequence[Any]) -> Value:
    """A tensor in another shape. None, or the batch's size, stands for the batch."""
    wanted = _inner_sizes(r, value, sizes)
    if value.axes[0] != BATCH:
        raise r.fail("a change of shape of a tensor whose first axis is not the batch cannot be packed")
    if tuple(wanted) == value.lengths[1:]:
        return value
    if not _stays_in_order(value, wanted):
        if len(wanted) == 1 and value.axes == (BATCH, 2, 0, 1):
            name = r.step("flatten", [settled(r, value)], {"order": "chw"})
            return Value(name, (wanted[0],), (BATCH, 0))
        value = in_order(r, value)
    return _split_and_merged(value, wanted)


def _inner_sizes(r: Recorder, value: Value, sizes: Sequence[Any]) -> list[int]:
    """The sizes that are asked for after the batch, with what -1 stands for."""
    total = math.prod(value.shape)
    inner = list(sizes[1:])
    numbers = all(type(size) is int for size in inner)
    first = sizes[0] if len(sizes) else None
    known = math.prod(size for size in inner if type(size) is int and size != -1)
    batch = first is None or (isinstance(first, Size) and first.axis == 0) or (first == -1 and known == total)
    if not numbers or not batch or inner.count(-1) > 1 or known == 0 or total % known:
        raise r.fail(f"a change of shape of {value.spelled()} that does not keep the batch first cannot be packed")
    sizes = [total // known if size == -1 else size for size in inner]
    if math.prod(sizes) != total:
        raise r.fail(f"a change of shape to {tuple(sizes)} does not fit a tensor of shape {value.spelled()}")
    return sizes


def _segments(lengths: Sequence[int], wanted: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest parts of two shapes with equal products: places of the first and of the second."""
    parts: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(lengths) or j < len(wanted):
        first, second = ([i], [j]) if i < len(lengths) and j < len(wanted) else ([], [])
        if not first:  # what is left are ones
            parts.append((list(range(i, len(lengths))), list(range(j, len(wanted)))))
            break
        i, j = i + 1, j + 1
        while math.prod(lengths[k] for k in first) != math.prod(wanted[k] for k in second):
            if math.prod(lengths[k] for k in first) < math.prod(wanted[k] for k in second):
                first.append(i)
                i += 1
            else:
                second.append(j)
                j += 1
        parts.append((first, second))
    return parts


def _stays_in_order(value: Value, wanted: Sequence[int]) -> bool:
    """Whether the numbers that become one axis, or that several axes share, lie in this order already."""
    lengths = [value.shape[place] for place in value.axes[1:]]
    for sources, _ in _segments(lengths, wanted):
        places = [value.axes[1:][k] for k in sources if lengths[k] != 1]
        between = [p for p in range(min(places, default=0), max(places, default=0) + 1) if value.shape[p] != 1]
        if places != between and len(places) > 1:
            return False
    return True


def _split_and_merged(value: Value, wanted: Sequence[int]) -> Value:
    lengths = [value.shape[place] for place in value.axes[1:]]
    made: list[tuple[float, int, int]] = []  # where each new axis lies among the old ones, its number, its length
    for sources, targets in _segments(lengths, wanted):
        places = (
            [value.axes[1:][k] for k in sources if lengths[k] != 1]
            or [value.axes[1:][k] for k in sources]
            or [len(value.shape)]
        )
        made += [(places[0], target, wanted[target]) for target in targets]
    made.sort(key=lambda axis: (axis[0], axis[1]))
    axes = [BATCH] * (len(wanted) + 1)
    for place, (_, target, _) in enumerate(made):
        axes[target + 1] = place
    return Value(value.name, tuple(length for _, _, length in made), tuple(axes))


@packs_function("view", "view", "reshape", torch.reshape)
def _view(r: Recorder, input: Any, *shape: Any) -> Any:
    if len(shape) == 1 and isinstance(shape[0], Size) and shape[0].axis is None:
        shape = shape[0].of.lengths
    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else list(shape)
    if isinstance(input, Tensor):
        return input.reshape(sizes)
    return viewed(r, input, sizes)


@packs_function("flatten(1)", torch.flatten, "flatten")
def flatten(r: Recorder, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """The axes from one to another as one."""
    first, last = axis_of(r, input, start_dim), axis_of(r, input, end_dim)
    if first == 0:
        raise r.fail("flatten must keep the batch axis: use flatten(1)")
    lengths = list(input.lengths)
    inner = math.prod(length for length in lengths[first : last + 1] if length is not None)
    return viewed(r, input, [*lengths[:first], inner, *lengths[last + 1 :]])


@packs_value(nn.Flatten)
def _flatten_layer(r: Recorder, name: str, layer: nn.Flatten, input: Value) -> Value:
    return flatten(r, input, layer.start_dim, layer.end_dim)


@packs_function("unflatten", torch.unflatten, "unflatten")
def _unflatten(r: Recorder, input: Value, dim: int, sizes: Sequence[int]) -> Value:
    axis, lengths = axis_of(r, input, dim), list(input.lengths)
    return viewed(r, input, [*lengths[:axis], *sizes, *lengths[axis + 1 :]])


@packs_value(nn.Unflatten)
def _unflatten_layer(r: Recorder, name: str, layer: nn.Unflatten, input: Value) -> Value:
    return _unflatten(r, input, layer.dim, layer.unflattened_size)  # type: ignore[arg-type]


@packs_function("unsqueeze", torch.unsqueeze, "unsqueeze")
def _unsqueeze(r: Recorder, input: Value, dim: int) -> Value:
    axis, lengths = axis_of(r, input, dim, 1), list(input.lengths)
    return viewed(r, input, [*lengths[:axis], 1, *lengths[axis:]])


@packs_function("squeeze", torch.squeeze, "squeeze")
def squeeze(r: Recorder, input: Value, dim: Any = None) -> Value:
    """Without axes of length one: all of them, or those that are named."""
    named = (
        range(len(input.axes))
        if dim is None
        else [axis_of(r, input, d) for d in (dim if isinstance(dim, (list, tuple)) else [dim])]
    )
    return viewed(r, input, [n for axis, n in enumerate(input.lengths) if axis not in named or n != 1])


@packs_function("expand", "expand", "expand_as", "repeat")
def _expand(r: Recorder, input: Any, *sizes: Any) -> Any:
    """A parameter for each of the batch stays what it is; of values only what a product or a sum would do by itself."""
    if isinstance(input, Value):
        other = sizes[0] if sizes else None
        if isinstance(other, Value) or (isinstance(other, Size) and other.axis is None):
            return input
        numbers = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else sizes
        if all(n in (-1, 1) or isinstance(n, Size) for n in numbers) or tuple(numbers[1:]) == input.lengths[1:]:
            return input
        raise r.fail("an expansion of a tensor cannot be packed: leave it to the sum or product that follows")
    numbers = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else sizes
    rest = [1 if isinstance(n, Size) else n for n in numbers]
    if not isinstance(input, Tensor) or (
        any(n not in (1, -1) for n in rest) and tuple(rest[1:]) != tuple(input.shape[1:])
    ):
        raise r.fail("an expansion along other axes than the batch cannot be packed")
    return input


@packs_function("", "size")
def _size(r: Recorder, input: Value, dim: int | None = None) -> Any:
    return Size(input) if dim is None else size_of(r, input, dim)


def size_of(r: Recorder, value: Value, axis: int) -> Any:
    """The length of an axis, or the batch's size."""
    length = value.length(axis_of(r, value, axis))
    return Size(value, 0) if length is None else length


@packs_function("", getattr)
def _getattr(r: Recorder, owner: Any, name: str) -> Any:
    if isinstance(owner, Value):
        if name == "shape":
            return Size(owner)
        if name == "logits":
            return owner  # of a model whose result holds other values too
        if name == "ndim":
            return len(owner.axes)
        if name == "mT":
            return _transpose(r, owner, -1, -2)
    raise r.fail(f"the attribute {name!r} cannot be packed")


@packs_function("", "dim")
def _dim(r: Recorder, input: Value) -> int:
    return len(input.axes)


# Parts


def part(r: Recorder, value: Value, place: int, start: int, stop: int) -> Value:
    """The places from `start` to before `stop` of an axis of the seen shape."""
    shape = value.shape
    if (start, stop) == (0, shape[place]):
        return value
    if not 0 <= start < stop <= shape[place]:
        raise r.fail(f"[{start}:{stop}] takes nothing, or more than the {shape[place]} of an axis")
    own, rest = r.shape(value.name), math.prod(shape[place + 1 :])
    before = math.prod(shape[:place])
    name, axis = value.name, next((k for k in range(len(own)) if math.prod(own[:k]) == before and own[k] != 1), None)
    within = math.prod(own[axis + 1 :]) if axis is not None else 1
    # The axis may be a part of one of the program's, as heads are of features.
    if axis is None or rest % within or own[axis] * within != shape[place] * rest:
        name, axis, within = reshaped(r, name, (*shape[:place], shape[place] * rest)), place, 1
    step = rest // within
    name = r.step("slice", [name], {"axis": axis, "start": start * step, "stop": stop * step})
    return Value(name, (*shape[:place], stop - start, *shape[place + 1 :]), value.axes)


def without_axis(value: Value, axis: int) -> Value:
    """Without an axis of PyTorch's tensor, whose length is one."""
    place = value.axes[axis]
    axes = [a - 1 if a > place else a for i, a in enumerate(value.axes) if i != axis]
    return Value(value.name, (*value.shape[:place], *value.shape[place + 1 :]), tuple(axes))


@packs_function("", operator.getitem)
def _item(r: Recorder, owner: Any, index: Any) -> Any:
    """The output of a recurrent layer, a part of a tensor or of a list, or an axis of a shape."""
    if isinstance(owner, Pair):
        if index != 0:
            raise r.fail(f"takes the state of {owner.layer}, which a program does not give: take the output, [0]")
        return owner.output
    if isinstance(owner, (list, tuple)):
        return owner[index]
    if isinstance(owner, Size):
        lengths = [size_of(r, owner.of, axis) for axis in range(len(owner.of.axes))]
        return lengths[index]
    return _indexed(r, owner, index if isinstance(index, tuple) else (index,))


def _indexed(r: Recorder, value: Value, index: tuple[Any, ...]) -> Value:
    given = [i for i in index if i is not None]
    if Ellipsis in given:
        full = [slice(None)] * (len(value.axes) - len(given) + 1)
        place = index.index(Ellipsis)
        index = (*index[:place], *full, *index[place + 1 :])
    axis = 0
    for entry in index:
        if entry is None:
            value = _unsqueeze(r, value, axis)
            axis += 1
        elif isinstance(entry, slice) and entry.step in (None, 1):
            if (entry.start, entry.stop) not in ((None, None), (0, None)):
                length = value.length(axis)
                if length is None or not all(b is None or isinstance(b, int) for b in (entry.start, entry.stop)):
                    raise r.fail(f"the index {index} cannot be packed: keep the batch, and use numbers")
                start, stop, _ = entry.indices(length)
                value = part(r, value, value.axes[axis], start, stop)
            axis += 1
        elif isinstance(entry, int) and value.axes[axis : axis + 1] not in ((), (BATCH,)):
            value = _one(r, value, axis, entry)
        else:
            raise r.fail(f"the index {index} cannot be packed: use numbers and slices of step 1, and keep the batch")
    return value


def _one(r: Recorder, value: Value, axis: int, entry: int) -> Value:
    """One place of an axis."""
    place = value.axes[axis]
    length = value.shape[place]
    entry %= length
    if place == 0 and len(value.shape) == 2 == len(r.shape(value.name)) and entry == length - 1 and not r.tokens:
        return without_axis(Value(r.step("last", [settled(r, value)]), (1, value.shape[1]), value.axes), axis)
    return without_axis(part(r, value, place, entry, entry + 1), axis)


@packs_function("chunk", torch.chunk, "chunk")
def _chunk(r: Recorder, input: Value, chunks: int, dim: int = 0) -> list[Value]:
    length = input.shape[_inner_axis(r, input, dim)]
    return _split(r, input, -(-length // chunks), dim)


@packs_function("split", torch.split, "split")
def _split(r: Recorder, tensor: Value, split_size: Any, dim: int = 0) -> list[Value]:
    place = _inner_axis(r, tensor, dim)
    length = tensor.shape[place]
    sizes = list(split_size) if isinstance(split_size, (list, tuple)) else [split_size] * -(-length // split_size)
    ends = np.minimum(np.cumsum(sizes), length).tolist()
    return [part(r, tensor, place, start, end) for start, end in zip([0, *ends], ends, strict=False)]


@packs_function("unbind", torch.unbind, "unbind")
def _unbind(r: Recorder, input: Value, dim: int = 0) -> list[Value]:
    axis, place = axis_of(r, input, dim), _inner_axis(r, input, dim)
    return [without_axis(part(r, input, place, i, i + 1), axis) for i in range(input.shape[place])]


# Joining


@packs_function("cat", torch.cat, torch.concat)
def _cat(r: Recorder, tensors: Sequence[Any], dim: int = 0) -> Value:
    first = next((tensor for tensor in tensors if isinstance(tensor, Value)), None)
    if first is None:
        raise r.fail("cat of what is not a tensor cannot be packed")
    _inner_axis(r, first, dim)
    if not all(isinstance(tensor, Value) for tensor in tensors):
        return _with_own_rows(r, list(tensors), axis_of(r, first, dim))
    joined = first
    for other in tensors[1:]:
        joined = _joined(r, joined, other, axis_of(r, first, dim))
    return joined


def _joined(r: Recorder, first: Value, second: Value, axis: int) -> Value:
    second = arranged(r, second, first.axes)
    place = first.axes[axis]
    lengths = [n for k, n in enumerate(first.shape) if k != place]
    if lengths != [n for k, n in enumerate(second.shape) if k != place]:
        raise r.fail(f"tensors of shapes {first.spelled()} and {second.spelled()} do not fit each other")
    joined = (*first.shape[:place], first.shape[place] + second.shape[place], *first.shape[place + 1 :])
    if place == len(joined) - 1 and r.shape(first.name)[:-1] == r.shape(second.name)[:-1] == joined[:-1]:
        return Value(r.step("concatenate", [first.name, second.name], {"axis": place}), joined, first.axes)
    # What lies after the axis goes along with it.
    rest = math.prod(joined[place + 1 :])
    names = [reshaped(r, v.name, (*joined[:place], v.shape[place] * rest)) for v in (first, second)]
    return Value(r.step("concatenate", names, {"axis": place}), joined, first.axes)


def _with_own_rows(r: Recorder, tensors: list[Any], axis: int) -> Value:
    *own, value = tensors
    fits = (
        isinstance(value, Value) and len(value.axes) == 3 and axis == 1 and not any(isinstance(t, Value) for t in own)
    )
    if not fits:
        raise r.fail(
            "cat of a tensor with a parameter can be packed only as rows before those of (batch, time, features)"
        )
    return with_own_rows(r, own, value)


def with_own_rows(r: Recorder, own: Sequence[Tensor], value: Value) -> Value:
    """Rows of parameters, such as the token of a class, before those of (batch, time, features)."""
    value = in_order(r, value)
    rows = torch.cat([tensor.detach().reshape(-1, tensor.shape[-1]) for tensor in own])
    name = r.float_tensor(f"{r.unique()}.rows", rows, "rows before a sequence")
    made = r.step("prepend", [settled(r, value)], {"rows": len(rows)}, constant=name)
    return Value.of(r, made)


@packs_function("stack", torch.stack)
def _stack(r: Recorder, tensors: Sequence[Any], dim: int = 0) -> Value:
    if not all(isinstance(tensor, Value) for tensor in tensors):
        raise r.fail("stack of tensors with parameters cannot be packed")
    return _cat(r, [_unsqueeze(r, tensor, dim) for tensor in tensors], dim)
