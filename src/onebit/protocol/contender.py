"""A contender in a process of its own: `python -m onebit.protocol.contender` with a request in JSON prints what it measured in JSON."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.protocol.stream import single_stream

Infer = Callable[[NDArray[np.uint8]], NDArray[Any]]
BATCH = 64


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Accuracy on all images and the single stream, with the same engine for both, as the rules ask for."""
    path, (engine, numerics) = Path(request["file"]), request["engine"].split()
    with tempfile.TemporaryDirectory() as folder:
        infer, size = ENGINES[engine](path, numerics, request["threads"], Path(folder))
        arrays = np.load(request["images"])
        pixels, labels = arrays["pixels"], arrays["labels"]
        right = 0
        for first in range(0, len(pixels), BATCH):
            found = infer(np.ascontiguousarray(pixels[first : first + BATCH])).argmax(-1)
            right += int((found == labels[first : first + BATCH]).sum())
        single = [np.ascontiguousarray(pixels[i : i + 1]) for i in range(min(len(pixels), 256))]
        stream = single_stream(
            lambda i: infer(single[i % len(single)]), request["seconds"], request["runs"], Path(request["sys"])
        )
    values = asdict(stream)
    return {
        "accuracy": right / len(pixels),
        "images": len(pixels),
        **values,
        "per_second": stream.runs / stream.seconds,
        "peak_bytes": _peak_bytes(),
        "file_bytes": size,
    }


def _peak_bytes() -> int:
    """The most resident memory of this process. Linux gives a child its parent's in `getrusage`, so its own is read from /proc."""
    status = Path("/proc/self/status")
    if status.exists():
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if found:
            return int(found[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _onebit(path: Path, numerics: str, threads: int, folder: Path) -> tuple[Infer, int]:
    from onebit.runtime import load

    session: Any = load(path, numerics, threads)  # type: ignore[arg-type]
    return session, path.stat().st_size


def _onnxruntime(path: Path, numerics: str, threads: int, folder: Path) -> tuple[Infer, int]:
    """The file's graph in onnxruntime; its products in int8 after onnxruntime's own quantisation of floats."""
    import onnxruntime

    from onebit.exports import export

    file = folder / "model.onnx"
    export(path, "onnx", file)
    if numerics == "int8":
        file = _quantised(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def infer(pixels: NDArray[np.uint8]) -> NDArray[Any]:
        outputs: NDArray[Any] = session.run(None, {"input": pixels.astype(np.float32) / np.float32(255)})[0]
        return outputs

    return infer, file.stat().st_size


def _quantised(file: Path) -> Path:
    """Static quantisation of products and convolutions, as onnxruntime does it, fitted to random pixels."""
    from onnxruntime import quantization

    from onebit.protocol.compare import CALIBRATED

    class Pixels(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            import onnx

            shape = [axis.dim_value for axis in onnx.load(file).graph.input[0].type.tensor_type.shape.dim][1:]
            random = np.random.default_rng(0).random((CALIBRATED, 1, *shape), np.float32)
            self.left = iter(random)

        def get_next(self) -> Any:
            pixels = next(self.left, None)
            return None if pixels is None else {"input": pixels}

    ready, made = file.with_name("ready.onnx"), file.with_name("int8.onnx")
    quantization.quant_pre_process(file, ready, skip_symbolic_shape=True)
    quantization.quantize_static(
        ready, made, Pixels(), op_types_to_quantize=["Conv", "MatMul", "Gemm"], per_channel=True
    )
    return made


ENGINES: dict[str, Callable[[Path, str, int, Path], tuple[Infer, int]]] = {
    "onebit": _onebit,
    "onnxruntime": _onnxruntime,
}

if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
