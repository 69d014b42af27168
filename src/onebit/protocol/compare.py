"""Measure contenders by the protocol, each in a process of its own, on the same images."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from onebit.data.held_out import images_to_measure
from onebit.data.record import DataRecord
from onebit.errors import OnebitError
from onebit.fileformat import PackedModel, load_model
from onebit.images import ImageTask
from onebit.pretrained import find
from onebit.printable import printable
from onebit.protocol.model import SOURCE, TABLE, modelled_joules, products_of
from onebit.protocol.report import Contender, Energy, Report
from onebit.protocol.stream import RUNS, SECONDS

# Images that the int8 numbers of another engine are fitted to; they are random, so no test image is.
CALIBRATED = 64


def protocol(
    file: str | Path,
    data: str,
    *,
    twin: str | Path | None = None,
    threads: int = 1,
    seconds: float = SECONDS,
    runs: int = RUNS,
    sys_folder: str | Path = "/sys",
) -> Report:
    """Measure a packed classifier of images by one protocol, and the same for its float twin.

    Contenders are the engine in "int8" and "float32", and onnxruntime where it is installed. Of a twin they are the engine, and onnxruntime in
    float32 and int8.

    Args:
        file: a `.onebit` file.
        data: the images; their test part is measured, all of it. See `onebit.evaluate`.
        twin: the packed file of the float twin.
        threads: of each engine.
        seconds, runs: the least time and number of inferences of the single stream; MLPerf Tiny's rules are the defaults.
        sys_folder: where the system's counters of energy are.

    Returns:
        The report.

    Raises:
        OnebitError: a file is not a classifier of images, or an engine fails.

    Example:
        >>> onebit.protocol.protocol("digits.onebit", "digits").contenders[0].accuracy  # doctest: +SKIP
        0.97
    """
    model, task = _classifier(find(file))
    record = None if model.training is None else DataRecord.from_json(model.training)
    images, part, notes = images_to_measure(data, task, record)
    has_onnx = util.find_spec("onnx") is not None and util.find_spec("onnxruntime") is not None
    asked = [(find(file), "onebit int8"), (find(file), "onebit float32")]
    if has_onnx:
        asked.append((find(file), "onnxruntime float32"))
    else:
        notes.append('onnxruntime is not installed and was not measured: pip install "onebit[onnx]"')
    if twin is not None:
        other = find(twin)
        if _classifier(other)[1] != task:
            raise OnebitError(
                f"[protocol] {printable(str(other))} has another task than {printable(str(file))}: needs equal labels and sizes"
            )
        asked.append((other, "onebit float32"))
        if has_onnx:
            asked += [(other, "onnxruntime float32"), (other, "onnxruntime int8")]
    given = {"threads": threads, "seconds": seconds, "runs": runs, "sys": str(sys_folder)}
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "images.npz"
        np.savez(arrays, pixels=images.pixels, labels=images.labels)
        found = [_measured(path, name, arrays, given, path != find(file)) for path, name in asked]
    table = {name: picojoules for name, (picojoules, _) in TABLE.items()}
    return Report(data, part, threads, machine(), tuple(found), SOURCE, table, tuple(notes))


def _classifier(path: Path) -> tuple[PackedModel, ImageTask]:
    model = load_model(path)
    if model.task["kind"] != "image-classification":
        raise OnebitError(
            f"[protocol] {printable(str(path))} has the task {model.task['kind']!r}: the protocol takes classifiers of images"
        )
    return model, ImageTask.from_json(model.task)


def _measured(path: Path, name: str, arrays: Path, given: dict[str, Any], is_twin: bool) -> Contender:
    """A contender, measured in a process of its own."""
    request = json.dumps({**given, "file": str(path), "engine": name, "images": str(arrays)})
    done = subprocess.run(
        [sys.executable, "-m", "onebit.protocol.contender", request], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise OnebitError(
            f"[protocol] {name} ended with {done.returncode}: {printable(said[-1] if said else 'no message')}"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    energy = Energy(**answer.pop("energy"))
    model = load_model(path)
    products = products_of(model)
    weights = sum(tensor.nbytes for tensor in model.tensors.values())
    shown = f"{name} (float twin)" if is_twin else name
    return Contender(
        name=shown,
        model=str(path),
        **answer,
        sign_products=products.sign,
        bit_products=products.bit,
        float_products=products.float,
        energy=energy,
        modelled_joules=modelled_joules(products, weights, name),
    )


def machine() -> dict[str, str]:
    """The processor, the system and the versions."""
    from onebit import __version__

    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = f"{names[0]}, {len(names)} processors" if names else processor
    versions = [f"onebit {__version__}", f"numpy {np.__version__}"]
    if util.find_spec("onnxruntime") is not None:
        versions.append(f"onnxruntime {metadata.version('onnxruntime')}")
    return {
        "processor": processor,
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(versions),
    }
