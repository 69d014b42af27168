"""Export a network of signs to NIR: one time step of neurons that fire, exact.

With spikes `s = (x + 1) / 2` of signs x, `W x >= t` is `2 W s - sum(W) - t + 0.5 > 0`: an affine layer and a neuron (arXiv 2311.14641 for NIR).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.exports import Check
from onebit.exports.signs.check import checked_pixels, compare
from onebit.exports.signs.lower import sign_network
from onebit.exports.signs.network import SignLayer, SignNetwork, after_pool, order_of_channels_first
from onebit.fileformat import PackedModel, write_atomically

EXTRA = 'pip install "onebit[nir]"'


@dataclass(frozen=True)
class NirFile:
    """The result of writing a NIR file.

    Args:
        nodes: the number of nodes.
        neurons: the number of neurons.
        bytes: the size of the file.
        check: the comparison; None if it was not requested.
    """

    nodes: int
    neurons: int
    bytes: int
    check: Check | None

    def __str__(self) -> str:
        return f"{self.nodes} nodes, {self.neurons:,} neurons, one time step, {self.bytes:,} bytes"


def write(model: PackedModel, out: Path, *, source: Path, check: bool = False) -> NirFile:
    """Write a packed network of signs as a NIR graph, exact with one time step.

    The input is spikes, 1 for +1 and 0 for -1, (inputs) or (channels, height, width). The output is the last layer's sums.

    Args:
        model: the model.
        out: the file.
        source: the model's file.
        check: read the file back, compute random pixels by NumPy from its nodes, and compare the outputs with the engine's.

    Raises:
        OnebitError: the program is not a network of signs, or a package is missing.
        OSError: the file cannot be written.
    """
    try:
        import nir
    except ImportError as error:
        raise OnebitError(f"[export] nir needs the package {error.name}: {EXTRA}") from None
    network = order_of_channels_first(sign_network(model, source, "nir"))
    graph = graph_of(network)
    part = out.with_name(f".{out.name[:40]}.{os.urandom(4).hex()}.part")
    try:
        nir.write(part, graph)
        found = None
        if check:
            back = nir.read(part)
            found = compare(model, network, checked_pixels(network), lambda signs: run(back, signs))
        content = part.read_bytes()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from None
    finally:
        part.unlink(missing_ok=True)
    write_atomically(out, content)
    neurons = sum(node.v_threshold.size for node in graph.nodes.values() if isinstance(node, nir.IF))
    return NirFile(len(graph.nodes), neurons, len(content), found)


def graph_of(network: SignNetwork) -> Any:
    """The network as a NIR graph, a chain of nodes."""
    import nir

    nodes: dict[str, Any] = {"input": nir.Input({"input": _channels_first(network.shape)})}
    shape, flatten = network.shape, bool(network.flatten)
    for number, layer in enumerate(network.layers):
        if flatten:
            before = _channels_first(shape)
            nodes[f"flatten{number}"] = nir.Flatten(input_type={"input": before}, start_dim=0, end_dim=-1)
        nodes[f"layer{number}"] = _affine(layer, shape)
        if layer.at is not None:
            nodes[f"fires{number}"] = _neurons(_channels_first(layer.shape), 0.0)
            if layer.pool is not None:
                # A maximum of spikes is a sum of at least one.
                kernel, stride = (np.array(one) for one in layer.pool)
                nodes[f"pool{number}"] = nir.SumPool2d(kernel_size=kernel, stride=stride, padding=np.zeros(2, int))
                nodes[f"pooled{number}"] = _neurons(_channels_first(after_pool(layer)), 0.5)
        shape, flatten = after_pool(layer), bool(layer.flatten)
    nodes["output"] = nir.Output({"output": _channels_first(network.layers[-1].shape)})
    names = list(nodes)
    return nir.NIRGraph(nodes=nodes, edges=list(pairwise(names)))


def _channels_first(shape: Any) -> NDArray[np.int64]:
    return np.array([shape[2], *shape[:2]] if len(shape) == 3 else shape)


def _affine(layer: SignLayer, before: Any) -> Any:
    """The layer for spikes: its number is above 0 where the sum is +1, and is the sum itself in the last layer."""
    import nir

    shift = -layer.weight.sum(tuple(range(1, layer.weight.ndim)))
    bias = (shift if layer.at is None else shift - layer.at + 0.5).astype(np.float32)
    if not layer.is_convolution:
        return nir.Affine((2 * layer.weight).astype(np.float32), bias)
    weight = (2 * layer.weight).transpose(0, 3, 1, 2).astype(np.float32)
    return nir.Conv2d(
        input_shape=tuple(before[:2]),
        weight=weight,
        stride=layer.stride,
        padding=(0, 0),
        dilation=(1, 1),
        groups=1,
        bias=bias,
    )


def _neurons(shape: NDArray[np.int64], threshold: float) -> Any:
    import nir

    full = np.ones(tuple(shape), np.float32)
    return nir.IF(r=full, v_threshold=full * np.float32(threshold), v_reset=full * np.float32(0))


def run(graph: Any, signs: NDArray[Any]) -> NDArray[np.int64]:
    """One time step of a chain of nodes in NumPy, for signs (n, *shape) with channels last: the output."""
    import nir

    x: NDArray[Any] = ((signs.transpose(0, 3, 1, 2) if signs.ndim == 4 else signs) + 1) / 2
    following = dict(graph.edges)
    name = following["input"]
    while name != "output":
        node = graph.nodes[name]
        if isinstance(node, nir.Affine):
            x = x @ node.weight.T + node.bias
        elif isinstance(node, nir.Conv2d):
            patches = _patches(x, node.weight.shape[2:], node.stride)  # (n, in, height, width, kh, kw)
            x = np.einsum("nihwkl,oikl->nohw", patches, node.weight) + node.bias[:, None, None]
        elif isinstance(node, nir.SumPool2d):
            x = _patches(x, node.kernel_size, node.stride).sum((-2, -1))
        elif isinstance(node, nir.IF):
            x = (node.r * x > node.v_threshold).astype(np.float64)
        else:
            x = x.reshape(len(x), -1)
        name = following[name]
    return np.rint(x).astype(np.int64)


def _patches(x: NDArray[Any], kernel: Any, stride: Any) -> NDArray[Any]:
    sides = tuple(int(side) for side in kernel)
    height, width = (int(step) for step in np.broadcast_to(stride, 2))
    found = np.lib.stride_tricks.sliding_window_view(x, sides, axis=(2, 3))
    return found[:, :, ::height, ::width]
