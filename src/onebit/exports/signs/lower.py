"""Turn the program of a packed file into a network of signs, or say everything that it lacks for one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.exports.refusals import refuse
from onebit.exports.signs.network import Ints, SignLayer, SignNetwork, after_pool
from onebit.fileformat import PackedModel
from onebit.ops import OPS
from onebit.ops.binary import read_weight
from onebit.ops.bit_rows import read_row
from onebit.program import Program, Shape, Step

# Functions of one number, or of one number and its channel.
POINTWISE = frozenset(
    (
        "scale_shift",
        "scale",
        "clip",
        "relu",
        "prelu",
        "tanh",
        "sigmoid",
        "hard_sigmoid",
        "hard_swish",
        "gelu",
        "silu",
        "relu_squared",
    )
)
PRODUCTS = ("bit_linear", "bit_conv2d")
PIXELS = 256


class _Fault(Exception):
    """What is wrong with a step."""


def sign_network(model: PackedModel, source: Path, target: str) -> SignNetwork:
    """The network of signs that a packed file holds.

    Raises:
        OnebitError: the program has steps that a network of signs lacks; all are named.
    """
    program = model.program
    faults: list[tuple[str, str]] = []
    if program.tokens:
        faults.append(("tokens", "its input is not an image"))
    for step in program.steps:
        faults += [(step.op, fault) for fault in _faults_of(step, model)]
    reads = [name for step in program.steps for name in step.inputs]
    chain = [program.input_name, *(step.output for step in program.steps)]
    if not faults and (reads != chain[:-1] or program.output != chain[-1]):
        faults.append(("the program", "is not a chain of steps"))
    if not faults and not any(step.op in PRODUCTS for step in program.steps):
        faults.append(("the program", "has no layer of bits"))
    refuse(source, target, faults)
    try:
        return _lowered(model)
    except _Fault as fault:
        refuse(source, target, [("the program", str(fault))])
        raise


def _faults_of(step: Step, model: PackedModel) -> list[str]:
    a = step.attributes
    if step.op not in PRODUCTS:
        if step.op == "max_pool2d":
            return ["padding is not 0"] if any(a["padding"]) else []
        return [] if step.op in POINTWISE or step.op == "flatten" else [""]
    found = []
    if a.get("input") != {"quantizer": "sign"}:
        found.append("its inputs are not signs")
    if "group" in a:
        found.append("its weights have scales of groups")
    if a.get("groups", 1) != 1 or a.get("dilation", [1, 1]) != [1, 1]:
        found.append("its convolution has groups or dilation")
    if any(a.get("padding", [0])):
        found.append("padding is not 0, and no sign is 0")
    if not found and np.abs(_weight(step, model)[0]).max() > 1:
        found.append("its weights are not -1, 0 and 1 times one number")
    return found


def _weight(step: Step, model: PackedModel) -> tuple[Ints, int]:
    """The weight in -1, 0 and 1, and the number that it is to be multiplied with."""
    a = step.attributes
    if step.op == "bit_linear":
        shape: Shape = (a["out_features"], a["in_features"])
    else:
        shape = (a["out_channels"], *a["kernel_size"], a["in_channels"])
    values = read_weight(a, model.tensors[step.tensors["weight"]], shape).astype(np.int64)
    factor = int(np.gcd.reduce(values, axis=None)) or 1
    return values // factor, factor


def _lowered(model: PackedModel) -> SignNetwork:
    steps = list(model.program.steps)
    places = [index for index, step in enumerate(steps) if step.op in PRODUCTS]
    pixels = np.arange(PIXELS, dtype=np.float32) / np.float32(255)
    entry = _Between(model, steps[: places[0]], model.program.input_shape, pixels, None)
    if entry.pool is not None:
        raise _Fault("it pools before its first layer of bits")
    at, negated = entry.least(np.arange(PIXELS))
    first, order, before = at, entry.flatten, model.program.input_shape
    layers = []
    for place, following in pairwise(places):
        step = steps[place]
        weight, factor = _weight(step, model)
        weight = _negated(weight, negated, order, before)
        layer = SignLayer(step.output, weight, _stride(step), factor, None, None, "", model.shapes[step.output])
        sums = np.arange(-layer.largest, layer.largest + 1)
        between = _Between(model, steps[place + 1 : following], layer.shape, sums * np.float32(factor), step)
        # Where numbers before the pool fall with the sums, the weights change their sign: then the pool takes the largest sum.
        turned = between.falls_before_pool if between.pool is not None else np.zeros(len(weight), bool)
        signs = np.where(turned, -1, 1).reshape(-1, *[1] * (weight.ndim - 1))
        at, negated = between.least(sums, turned)
        layer = replace(layer, weight=weight * signs, pool=between.pool, flatten=between.flatten, at=at)
        order, before = between.flatten, after_pool(layer)
        layers.append(layer)
    step = steps[places[-1]]
    weight, factor = _weight(step, model)
    weight = _negated(weight, negated, order, before)
    layers.append(SignLayer(step.output, weight, _stride(step), factor, None, None, "", model.shapes[step.output]))
    finish, tensors = _finish(model, step, steps[places[-1] + 1 :])
    return SignNetwork(model.program.input_shape, first, entry.flatten, tuple(layers), finish, tensors)


def _negated(weight: Ints, negated: NDArray[np.bool_], order: str, shape: Shape) -> Ints:
    """A weight whose inputs of some channels come with the other sign."""
    signs = np.where(negated, -1, 1)
    if order:
        positions = shape[0] * shape[1]
        signs = signs.repeat(positions) if order == "chw" else np.tile(signs, positions)
    return weight * signs


def _stride(step: Step) -> tuple[int, int]:
    height, width = step.attributes.get("stride", (1, 1))
    return height, width


class _Between:
    """The steps between two layers of bits, computed for every number that can come in.

    pool: kernel and stride of a maximum, or None.
    flatten: the order of a change to one axis, or "".
    falls_before_pool: for each channel, whether what is pooled falls while the incoming number rises.
    """

    def __init__(
        self, model: PackedModel, steps: list[Step], shape: Shape, numbers: NDArray[np.float32], product: Step | None
    ) -> None:
        self.pool: tuple[tuple[int, int], tuple[int, int]] | None = None
        self.flatten = ""
        channels = shape[-1]
        y = np.repeat(numbers.astype(np.float32)[:, None], channels, 1)  # (numbers, channels)
        if product is not None and "bias" in product.tensors:
            bias = model.tensors[product.tensors["bias"]]
            y = y + read_row(bias, channels, product.attributes["values"]).astype(np.float32)
        before = y
        for step in steps:
            if step.op == "flatten":
                self.flatten = step.attributes["order"] if len(shape) == 3 else self.flatten
                continue
            if step.op == "max_pool2d":
                if self.pool is not None:
                    raise _Fault("it pools twice between two layers of bits")
                (kh, kw), (sh, sw) = step.attributes["kernel_size"], step.attributes["stride"]
                self.pool, before = ((kh, kw), (sh, sw)), y
                continue
            tensors = {role: self._of_channels(model.tensors[name], channels) for role, name in step.tensors.items()}
            with np.errstate(all="ignore"):
                y = OPS[step.op].run(step.attributes, tensors, "float32", y)
        self.falls_before_pool = before[-1] < before[0]
        for name, values in (
            ("the numbers that it pools", before),
            ("the signs of its numbers", np.where(y >= 0, 1, -1)),
        ):
            if name.startswith("the numbers") and self.pool is None:
                continue
            steps_of = np.diff(values, axis=0)
            if not ((steps_of >= 0).all(0) | (steps_of <= 0).all(0)).all():
                raise _Fault(f"{name} neither rise nor fall with its sums")
        self._positive = y >= 0

    def _of_channels(self, tensor: NDArray[Any], channels: int) -> NDArray[Any]:
        """A tensor with a number for each channel, also where the channels of an image lie flat."""
        if tensor.size == channels:
            return tensor
        parts = tensor.reshape(channels, -1).T if self.flatten == "chw" else tensor.reshape(-1, channels)
        if not (parts == parts[0]).all():
            raise _Fault("its numbers have thresholds that differ between positions of a channel")
        return parts[0]

    def least(self, numbers: Ints, turned: NDArray[np.bool_] | None = None) -> tuple[Ints, NDArray[np.bool_]]:
        """The least number of each channel that gives +1, and for which channels it gives -1, and lower ones +1.

        `turned` says which channels' numbers come with the other sign.
        """
        positive, low, high = self._positive, numbers[0], numbers[-1]
        rises = positive[-1] | ~positive[0]  # a channel that is always the same rises
        first = np.where(positive.any(0), numbers[positive.argmax(0)], high + 1)
        last = numbers[len(numbers) - 1 - positive[::-1].argmax(0)]
        at = np.where(rises, first, last + 1)
        if turned is None:
            return at, ~rises
        # `number >= at` of the negative number is `-number <= -at`, the contrary of `-number >= 1 - at`.
        at = np.where(turned, 1 - at, at)
        return np.clip(at, low, high + 1), np.where(turned, rises, ~rises)


def _finish(model: PackedModel, product: Step, steps: list[Step]) -> tuple[Program, dict[str, NDArray[Any]]]:
    """The steps from the last layer's sums to the outputs, and their tensors."""
    shape = model.shapes[product.output]
    names = {name for step in steps for name in step.tensors.values()}
    tensors = {name: model.tensors[name] for name in names}
    program = Program(product.output, shape, tuple(steps), model.program.output)
    if "bias" not in product.tensors:
        return program, tensors
    bias = read_row(model.tensors[product.tensors["bias"]], shape[-1], product.attributes["values"])
    tensors |= {"bias of bits": bias.astype(np.float32), "ones": np.ones(shape[-1], np.float32)}
    added = Step("scale_shift", ("sums",), product.output, {}, {"scale": "ones", "shift": "bias of bits"})
    return replace(program, input_name="sums", steps=(added, *steps)), tensors
