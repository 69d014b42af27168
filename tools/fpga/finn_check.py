"""Take a packed network of signs through FINN+'s streamlining, and compare every sum after each step with the network's own.

PYTHONPATH=src python tools/fpga/finn_check.py MODEL.onebit [--count 32]

It needs finn-plus 1.6.1 and qonnx 1.0.0, and no tool of a maker of FPGAs. docs/fpga.md has a run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from onebit.exports.signs import qonnx
from onebit.exports.signs.check import checked_pixels
from onebit.exports.signs.lower import sign_network
from onebit.exports.signs.network import order_of_channels_first
from onebit.fileformat import load_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a .onebit file")
    parser.add_argument("--count", type=int, default=32, help="random images")
    options = parser.parse_args()

    from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
    from finn.transformation.streamline import Streamline
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
    from qonnx.util.cleanup import cleanup_model

    network = order_of_channels_first(sign_network(load_model(options.model), options.model, "qonnx"))
    signs = network.signs(checked_pixels(network, options.count))
    x, expected = qonnx.inputs(network, signs), network.sums(signs)
    model = cleanup_model(ModelWrapper(qonnx.graph_of(network, "bipolar")))

    def sums(model: Any) -> Any:
        names = model.graph.input[0].name, model.graph.output[0].name
        return np.concatenate([execute_onnx(model, {names[0]: x[i : i + 1]})[names[1]] for i in range(len(x))])

    def to_xnor(model: Any) -> Any:
        return model.transform(ConvertBipolarMatMulToXnorPopcount()).transform(InferDataTypes())

    steps: list[tuple[str, Any]] = [
        ("ConvertQONNXtoFINN", lambda model: model.transform(ConvertQONNXtoFINN())),
        ("LowerConvsToMatMul", lambda model: model.transform(LowerConvsToMatMul())),
        ("Streamline", lambda model: model.transform(Streamline())),
        ("ConvertBipolarMatMulToXnorPopcount", to_xnor),
        ("Streamline", lambda model: model.transform(Streamline())),
    ]
    wrong, begun = 0, time.monotonic()
    for name, transform in steps:
        model = transform(model)
        different = int((sums(model) != expected).sum())
        wrong += different
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(n.op_type for n in model.graph.node).items())
        print(f"{name}: {kinds}; {expected.size} sums, {different or 'none'} different")
    print(f"in {time.monotonic() - begun:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
