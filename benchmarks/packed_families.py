"""Compare families of networks with weights of one bit with the float networks in int8: OpenVINO, ONNX Runtime and the engine in one run.

    pip install torch onnx onnxscript onnxruntime openvino nncf
    python benchmarks/packed_families.py --out runs/families [--only ViT-tiny U-Net] [--repeats 9]

Every network is computed by one thread, batch 1, in int8: the engine with weights of one bit and activations of 8 bits, the others with weights and
activations of 8 bits, quantised after training with random images. All of them run in this process and take turns. Times are processor time, because
other programs may use the cores. Writes families.json and families.md into the folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from family_networks import NETWORKS

LEAST_SECONDS = 0.15  # of one measurement, of which there are several


def settled(make: Callable[[], Any]) -> Any:
    """A network, untrained, always with the same weights."""
    import torch

    torch.manual_seed(0)
    return make().eval()


def engine(make: Callable[[], Any], side: int, images: Any) -> tuple[Callable[[], Any], str]:
    """onebit: the network with weights of one bit, its first and last layer of floats."""
    import onebit

    model = settled(make)
    onebit.convert(model, onebit.schemes.BinaryWeightNetwork())
    task = onebit.ImageTask(tuple("abcd"), (side, side), 3, (0.0,) * 3, (1.0,) * 3)
    with tempfile.TemporaryDirectory() as folder:
        onebit.pack(model.eval(), Path(folder) / "a.onebit", task)
        session = onebit.load(Path(folder) / "a.onebit", "int8", threads=1)
    x = np.ascontiguousarray(images[:1].transpose(0, 2, 3, 1))
    return lambda: session(x), "weights of 1 bit"


def openvino_int8(make: Callable[[], Any], side: int, images: Any, transformer: bool) -> tuple[Callable[[], Any], str]:
    """OpenVINO after nncf's quantisation."""
    import nncf
    import openvino as ov
    import torch

    model = ov.convert_model(settled(make), example_input=torch.from_numpy(images[:1]), input=[1, 3, side, side])
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    model = nncf.quantize(model, nncf.Dataset([image[None] for image in images]), model_type=kind)
    core = ov.Core()
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    )
    request = compiled.create_infer_request()
    return lambda: request.infer([images[:1]]), ov.__version__


def onnx_runtime_int8(make: Callable[[], Any], side: int, images: Any) -> tuple[Callable[[], Any], str]:
    """ONNX Runtime after its static quantisation, with a scale for each channel."""
    import onnxruntime as ort
    import torch
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = list(images)

        def get_next(self) -> Any:
            return {"x": self.left.pop()[None]} if self.left else None

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        plain, shaped, small = (f"{folder}/{name}.onnx" for name in ("plain", "shaped", "int8"))
        given = torch.from_numpy(images[:1])
        torch.onnx.export(settled(make), (given,), plain, input_names=["x"], opset_version=17, dynamo=False)
        quant_pre_process(plain, shaped)
        quantize_static(
            shaped,
            small,
            Reader(),
            QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        session = ort.InferenceSession(small, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": images[:1]}), ort.__version__


def processor_ms(run: Callable[[], Any]) -> float:
    """Milliseconds of processor time of one run: the mean of as many as take long enough."""
    runs, start, wall = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < LEAST_SECONDS or runs < 2:
        run()
        runs += 1
    return (time.process_time() - start) / runs * 1e3


def measured(name: str, repeats: int) -> dict[str, Any]:
    """The fastest and the median time of each engine, which take turns."""
    make, side, transformer = NETWORKS[name]
    images = np.random.default_rng(0).random((8, 3, side, side), np.float32)
    ways: dict[str, Callable[[], tuple[Callable[[], Any], str]]] = {
        "onebit": lambda: engine(make, side, images),
        "OpenVINO int8": lambda: openvino_int8(make, side, images, transformer),
        "ONNX Runtime int8": lambda: onnx_runtime_int8(make, side, images),
    }
    ready, absent = {}, {}
    for way, build in ways.items():
        try:
            ready[way] = build()
            ready[way][0]()
        except Exception as error:  # whatever a competitor lacks
            absent[way] = f"{type(error).__name__}: {error}".splitlines()[0]
    times: dict[str, list[float]] = {way: [] for way in ready}
    for _ in range(repeats):
        for way, (run, _) in ready.items():
            times[way].append(processor_ms(run))
    engines = {
        way: {"ms": min(t), "median_ms": statistics.median(t), "version": ready[way][1]} for way, t in times.items()
    }
    return {"network": name, "engines": engines, "absent": absent}


def table(results: list[dict[str, Any]]) -> str:
    """The results in Markdown: the fastest runs, and how many times faster onebit is than the faster of the others."""
    names = ["onebit", "OpenVINO int8", "ONNX Runtime int8"]
    lines = [f"| network | {' | '.join(f'{n}, ms' for n in names)} | x |", "| --- | ---: | ---: | ---: | ---: |"]
    for result in results:
        ms = [result["engines"].get(name, {}).get("ms") for name in names]
        others = [value for value in ms[1:] if value]
        ratio = f"{min(others) / ms[0]:.2f}" if others and ms[0] else "absent"
        lines.append(
            f"| {result['network']} | {' | '.join('absent' if v is None else f'{v:.2f}' for v in ms)} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name in options.only:
        results.append(measured(name, options.repeats))
        (options.out / "families.json").write_text(json.dumps(results, indent=1))
        print(table(results), *(f"{way}: {why}" for way, why in results[-1]["absent"].items()), sep="\n", flush=True)
    (options.out / "families.md").write_text(table(results) + "\n")


if __name__ == "__main__":
    main()
