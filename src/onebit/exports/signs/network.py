"""Networks of signs in whole numbers: what FPGAs, Verilog and spikes compute.

Between two layers whose inputs are signs lie functions of single numbers: normalisation, clipping, pooling. A layer's sums are whole numbers, so
these functions and the sign are one comparison of the sum with a whole number for each output. The functions are computed for every possible sum
by the ops' own formulas, so the comparison gives the same bit as the engine for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.program import Program, Shape

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SignLayer:
    """A layer whose inputs are signs.

    Args:
        name: of its value in the program.
        weight: -1, 0 and 1: (outputs, inputs), or (outputs, kernel height, kernel width, inputs) of a convolution without padding.
        stride: of the convolution; (1, 1) of a dense layer.
        factor: the program's sum is `factor * sum`.
        pool: kernel and stride of a maximum over sums, or None.
        at: for each output, the least sum that is +1; lower ones are -1. None for the last layer.
        flatten: the order in which the next, dense layer takes an image's numbers: "hwc", "chw", or "" where there is no image.
        shape: of its sums, before pooling.
    """

    name: str
    weight: Ints
    stride: tuple[int, int]
    factor: int
    pool: tuple[tuple[int, int], tuple[int, int]] | None
    at: Ints | None
    flatten: str
    shape: Shape

    @property
    def is_convolution(self) -> bool:
        return self.weight.ndim == 4

    @property
    def largest(self) -> int:
        """The largest sum."""
        return int(np.abs(self.weight).sum(tuple(range(1, self.weight.ndim))).max())

    def sums(self, signs: Ints) -> Ints:
        """The sums of a batch of signs, before pooling."""
        if not self.is_convolution:
            return signs @ self.weight.T
        out, kh, kw, _ = self.weight.shape
        (sh, sw), (height, width) = self.stride, self.shape[:2]
        total = np.zeros((len(signs), height, width, out), np.int64)
        for r in range(kh):
            for c in range(kw):
                part = signs[:, r : r + (height - 1) * sh + 1 : sh, c : c + (width - 1) * sw + 1 : sw]
                total += part @ self.weight[:, r, c].T
        return total


@dataclass(frozen=True)
class SignNetwork:
    """A network whose layers all take signs.

    Args:
        shape: of the input: an image's, or one axis.
        entry: for each channel, the least pixel, of 0 to 255, that is +1.
        flatten: the order in which a first, dense layer takes the image's signs, or "".
        layers: in order.
        finish: the program from the last sums (times their factor) to the outputs.
        tensors: those of `finish`.
    """

    shape: Shape
    entry: Ints
    flatten: str
    layers: tuple[SignLayer, ...]
    finish: Program
    tensors: dict[str, NDArray[Any]]

    def signs(self, pixels: NDArray[np.uint8]) -> Ints:
        """The signs of pixels (n, *shape)."""
        return signs_of(pixels.astype(np.int64), self.entry)

    def sums(self, signs: Ints) -> Ints:
        """The sums of the last layer for signs (n, *shape)."""
        x = _flat(signs, self.flatten)
        for layer in self.layers:
            x = layer.sums(x)
            if layer.at is None:
                break
            if layer.pool is not None:
                x = _pooled(x, *layer.pool)
            x = _flat(signs_of(x, layer.at), layer.flatten)
        return x

    def outputs(self, sums: Ints) -> NDArray[np.float32]:
        """The outputs of the packed file for the last layer's sums, in float32."""
        from onebit.runtime import reference

        start = (sums * self.layers[-1].factor).astype(np.float32)
        return reference.run(self.finish, self.tensors, start, "float32")

    @property
    def products(self) -> int:
        """Products of signs for an input."""
        return sum(int(np.prod(layer.shape[:-1])) * layer.weight.size for layer in self.layers)


def signs_of(numbers: NDArray[Any], at: Ints) -> Ints:
    """+1 where a number is at least that of its channel (the last axis), else -1."""
    return np.where(numbers >= at, 1, -1)


def order_of_channels_first(network: SignNetwork) -> SignNetwork:
    """The same network with dense layers that take channels first where an image comes before, as ONNX's `Flatten` gives it."""
    layers, flatten, before = [], network.flatten, network.shape
    for layer in network.layers:
        if flatten == "hwc":
            places = np.arange(layer.weight.shape[1]).reshape(before).transpose(2, 0, 1).reshape(-1)
            layer = replace(layer, weight=layer.weight[:, places])
        layers.append(replace(layer, flatten="chw" if layer.flatten else ""))
        flatten, before = layer.flatten, after_pool(layer)
    return replace(network, layers=tuple(layers), flatten="chw" if network.flatten else "")


def after_pool(layer: SignLayer) -> Shape:
    """The shape of a layer's signs, before they are flattened."""
    if layer.pool is None:
        return layer.shape
    (kh, kw), (sh, sw) = layer.pool
    return ((layer.shape[0] - kh) // sh + 1, (layer.shape[1] - kw) // sw + 1, layer.shape[2])


def _flat(x: Ints, order: str) -> Ints:
    if not order:
        return x
    return (x.transpose(0, 3, 1, 2) if order == "chw" and x.ndim == 4 else x).reshape(len(x), -1)


def _pooled(x: Ints, kernel: tuple[int, int], stride: tuple[int, int]) -> Ints:
    found = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))
    return found[:, :: stride[0], :: stride[1]].max((-2, -1))
