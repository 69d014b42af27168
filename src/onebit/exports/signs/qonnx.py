"""Export a network of signs to QONNX, which hls4ml and FINN take: every constant is a whole number or half of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.exports import Check
from onebit.exports.signs.check import checked_pixels, compare
from onebit.exports.signs.lower import sign_network
from onebit.exports.signs.network import SignNetwork, order_of_channels_first
from onebit.fileformat import PackedModel, write_atomically
from onebit.printable import printable

if TYPE_CHECKING:
    import onnx

Weights = Literal["int2", "bipolar"]
EXTRA = 'pip install "onebit[qonnx]"'
OPSET, IR = 13, 8


@dataclass(frozen=True)
class QonnxFile:
    """The result of writing a QONNX file.

    Args:
        layers: the number of layers of bits.
        products: products of signs for an input.
        bytes: the size of the file.
        precision: the fixed-point format, as hls4ml writes it, that holds every number of the graph exactly.
        check: the comparison; None if it was not requested.
    """

    layers: int
    products: int
    bytes: int
    precision: str
    check: Check | None

    def __str__(self) -> str:
        return (
            f"{self.layers} layers, {self.products:,} products of signs, {self.bytes:,} bytes; "
            f"every number is exact in {self.precision}"
        )


def write(model: PackedModel, out: Path, *, source: Path, weights: Weights = "int2", check: bool = False) -> QonnxFile:
    """Write a packed network of signs as QONNX.

    The input is float32 of -1 and +1, (1, channels, height, width) or (1, inputs): `onebit.exports.signs.qonnx.inputs` makes it of pixels. The
    output is the whole sums of the last layer. The file's metadata has `finish`, the steps from these to the packed file's outputs, `entry`, what
    makes signs of pixels, and `precision`.

    Args:
        model: the model.
        out: the file.
        source: the model's file.
        weights: ``"int2"``, for hls4ml: `Quant` of 2 bits, because hls4ml 1.3.0 makes signs of `BipolarQuant` weights twice. ``"bipolar"``, for FINN,
            which makes XNOR and popcount of them: `BipolarQuant`; no weight may be 0.
        check: compute random pixels with qonnx and with the engine, and compare all outputs.

    Raises:
        OnebitError: the program is not a network of signs, or a package is missing.
        OSError: the file cannot be written.
    """
    try:
        import onnx  # noqa: F401

        if check:
            import qonnx  # noqa: F401
    except ImportError as error:
        raise OnebitError(f"[export] qonnx needs the package {error.name}: {EXTRA}") from None
    if weights not in ("int2", "bipolar"):
        raise OnebitError(f"[export] weights={weights!r}: use 'int2' or 'bipolar'")
    network = order_of_channels_first(sign_network(model, source, "qonnx"))
    if weights == "bipolar" and not all(layer.weight.all() for layer in network.layers):
        raise OnebitError(
            f"[export] {printable(str(source))} has weights of 0, which are not bipolar: use weights='int2'"
        )
    made = graph_of(network, weights)
    content = made.SerializeToString()
    found = compare(model, network, checked_pixels(network), lambda signs: executed(made, signs)) if check else None
    write_atomically(out, content)
    return QonnxFile(len(network.layers), network.products, len(content), precision_of(network), found)


def precision_of(network: SignNetwork) -> str:
    """The fixed-point format with a half as its last place that holds all sums and comparisons."""
    most = max(layer.largest for layer in network.layers)
    most += max((int(np.abs(layer.at).max()) for layer in network.layers if layer.at is not None), default=0)
    whole = most.bit_length() + 1
    return f"fixed<{whole + 1},{whole}>"


def inputs(network: SignNetwork, signs: NDArray[Any]) -> NDArray[np.float32]:
    """Signs (n, *shape) in the order of the graph's input."""
    return (signs.transpose(0, 3, 1, 2) if signs.ndim == 4 else signs).astype(np.float32)


def graph_of(network: SignNetwork, weights: Weights = "int2") -> onnx.ModelProto:
    """The network as QONNX."""
    from onnx import helper

    from onebit.exports.onnx.graph import FLOAT, QONNX, Graph

    g = Graph()
    one, two, zero = (g.constant(number) for number in (1, 2, 0))

    def signs(name: str) -> str:
        return str(g.node("BipolarQuant", [name, one], domain=QONNX))

    def quantized(values: NDArray[Any]) -> str:
        if weights == "bipolar":
            return signs(g.constant(values))
        given: dict[str, Any] = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
        return str(g.node("Quant", [g.constant(values), one, zero, two], domain=QONNX, **given))

    shape = network.shape
    is_image = len(shape) == 3
    x = signs("input")
    if network.flatten:
        x = g.node("Flatten", [x], axis=1)
    for layer in network.layers:
        if layer.is_convolution:
            kernel = quantized(layer.weight.transpose(0, 3, 1, 2))
            own: dict[str, Any] = {"kernel_shape": layer.weight.shape[1:3], "strides": layer.stride}
            x = g.node("Conv", [x, kernel], **own, pads=[0] * 4, dilations=[1, 1], group=1)
        else:
            x = g.node("MatMul", [x, quantized(layer.weight.T)])
        if layer.at is None:
            break
        if layer.pool is not None:
            x = g.node("MaxPool", [x], kernel_shape=layer.pool[0], strides=layer.pool[1], pads=[0] * 4)
        # A number halfway between two sums, which is never met. hls4ml takes no scale below 0 here.
        ones, zeros = np.ones(len(layer.at)), np.zeros(len(layer.at))
        numbers = [g.constant(ones), g.constant(0.5 - layer.at), g.constant(zeros), g.constant(ones)]
        # Without a variance of exactly 1 and with an epsilon, hls4ml would cut a scale of nearly 1 off.
        x = signs(g.node("BatchNormalization", [x, *numbers], epsilon=0.0))
        if layer.flatten:
            x = g.node("Flatten", [x], axis=1)
    g.nodes[-1].output[0] = "output"
    entry = [1, shape[2], *shape[:2]] if is_image else [1, *shape]
    last = network.layers[-1].shape
    graph = helper.make_graph(
        g.nodes,
        "onebit",
        [helper.make_tensor_value_info("input", FLOAT, entry)],
        [helper.make_tensor_value_info("output", FLOAT, [1, *last])],
        list(g.constants.values()),
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(QONNX, 1)]
    model = helper.make_model(graph, producer_name="onebit", opset_imports=opsets, ir_version=IR)
    about = {
        "entry": json.dumps(network.entry.tolist()),
        "finish": network.finish.to_json(),
        "precision": precision_of(network),
    }
    helper.set_model_props(model, about)
    return model


def executed(model: onnx.ModelProto, signs: NDArray[Any]) -> NDArray[np.int64]:
    """The sums that qonnx computes for signs (n, *shape), one example after the other."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    wrapped = cleanup_model(ModelWrapper(model))
    names = wrapped.graph.input[0].name, wrapped.graph.output[0].name
    x = (signs.transpose(0, 3, 1, 2) if signs.ndim == 4 else signs).astype(np.float32)
    found = [execute_onnx(wrapped, {names[0]: x[i : i + 1]})[names[1]] for i in range(len(x))]
    return np.concatenate(found).astype(np.int64)
