"""Take a packed network of signs through hls4ml's C simulation, and compare every sum with the network's own.

PYTHONPATH=src python tools/fpga/hls4ml_check.py MODEL.onebit --out build/hls4ml [--io io_stream] [--count 64]

It needs hls4ml 1.3.0, qonnx 1.0.0 and g++, and no tool of a maker of FPGAs. docs/fpga.md has a run.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from onebit.exports.signs import qonnx
from onebit.exports.signs.check import checked_pixels
from onebit.exports.signs.lower import sign_network
from onebit.exports.signs.network import order_of_channels_first
from onebit.fileformat import load_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a .onebit file")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the project")
    parser.add_argument("--io", choices=("io_parallel", "io_stream"), default="io_parallel", help="of hls4ml")
    parser.add_argument("--count", type=int, default=64, help="random images")
    options = parser.parse_args()

    import hls4ml
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    network = order_of_channels_first(sign_network(load_model(options.model), options.model, "qonnx"))
    signs = network.signs(checked_pixels(network, options.count))
    model = cleanup_model(ModelWrapper(qonnx.graph_of(network)))
    x = signs.astype(np.float32)
    if x.ndim == 4:
        model = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
        model = cleanup_model(model.transform(GemmToMatMul()))
    precision = qonnx.precision_of(network)
    config = hls4ml.utils.config_from_onnx_model(
        model, granularity="name", backend="Vitis", default_precision=precision
    )
    begun = time.monotonic()
    project = hls4ml.converters.convert_from_onnx_model(
        model, output_dir=str(options.out), io_type=options.io, backend="Vitis", hls_config=config
    )
    project.compile()
    found = project.predict(np.ascontiguousarray(x)).reshape(len(x), -1)
    expected = network.sums(signs)
    different = int((found != expected).sum())
    print(
        f"hls4ml {hls4ml.__version__}, {options.io}, {precision}: {expected.size} sums of {len(x)} images, "
        f"{different or 'none'} different, in {time.monotonic() - begun:.1f} s"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
