"""Compare layers with 1-bit weights and 1-bit activations in one run: the engine, PyTorch float32, OpenVINO and Larq Compute Engine.

    pip install torch openvino
    python -m venv larq && larq/bin/pip install larq-compute-engine[tensorflow] larq tf_keras
    python benchmarks/binary_activations.py --out runs/binary-activations --larq larq/bin/python [--threads 1 2] [--repeats 15]

TensorFlow may need another NumPy than PyTorch, so it has its own Python. Without --larq it is imported like the others.
Each competitor runs in its own process and computes a whole layer, from float activations to float sums. They take turns. A competitor that
cannot be imported, or that fails, is listed as absent with the reason. All that compute with signs get the same weights and activations,
and their outputs are compared with PyTorch's. Writes binary-activations.json and binary-activations.md into the folder.
docs/kernels.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from measure import cpu_features, cpu_name, interleaved, pin, timed
from peer_process import PAUSE_SECONDS, Process

OURS = "onebit, signs"
PACKAGES = ("torch", "openvino", "numpy")
# Long enough to hide the clock's own time, and usually short enough to lie between two interruptions by other processes.
LEAST_MS = 2.0
RUNS = 10
# With a wrong order of weights almost every sum differs. If a library pads with -1, only the edges differ.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Layer:
    """A convolution with padding that keeps its size, or a dense layer (1x1 over one pixel)."""

    name: str
    kernel: int
    channels: int
    side: int

    @property
    def multiply_accumulates(self) -> int:
        """Products with padding count."""
        return self.kernel**2 * self.channels**2 * self.side**2

    def bits(self) -> Any:
        """Weights: (outputs, inputs, kernel, kernel) of 0 and 1."""
        shape = (self.channels, self.channels, self.kernel, self.kernel)
        return np.random.default_rng(0).integers(0, 2, shape, np.uint8)

    def image(self) -> Any:
        """Activations: float32 (1, channels, side, side)."""
        return np.random.default_rng(1).standard_normal((1, self.channels, self.side, self.side), np.float32)


LAYERS = (
    Layer("3x3, 256 channels, 14x14", 3, 256, 14),
    Layer("3x3, 64 channels, 56x56", 3, 64, 56),
    Layer("dense, 4096 to 4096, 1 row", 1, 4096, 1),
)

# A job, a function that returns its output as (channels, side, side), and a description.
Started = tuple[Callable[[], object], Callable[[], Any], str]


def onebit_layer(quantizer: dict[str, Any] | None, layer: Layer, threads: int) -> Started:
    """Our engine, through a packed program."""
    from onebit._engine import Engine
    from onebit.program import Program, Step, pack_rows

    bits = layer.bits()
    attributes: dict[str, Any] = {"values": "pm1"} | ({"input": quantizer} if quantizer else {})
    shape: tuple[int, ...] = (layer.channels,)
    if layer.side == 1:
        op = "bit_linear"
        attributes |= {"in_features": layer.channels, "out_features": layer.channels}
    else:
        op, shape = "bit_conv2d", (layer.side, layer.side, layer.channels)
        attributes |= {"in_channels": layer.channels, "out_channels": layer.channels, "kernel_size": [layer.kernel] * 2}
        attributes |= {"stride": [1, 1], "padding": [layer.kernel // 2] * 4, "dilation": [1, 1], "groups": 1}
    program = Program("x", shape, (Step(op, ("x",), "y", attributes, {"weight": "w"}),), "y")
    weight = pack_rows(bits.transpose(0, 2, 3, 1).reshape(layer.channels, -1))
    engine = Engine(program.to_json(), {"w": weight}, "int8", threads)
    x = np.ascontiguousarray(layer.image().transpose(0, 2, 3, 1)).reshape(1, *shape)
    how = engine.plan()[0]["kernel"]

    def output() -> Any:
        return engine.run(x).reshape(layer.side, layer.side, layer.channels).transpose(2, 0, 1)

    return partial(engine.run, x), output, f"instruction set {engine.isa}; {how}; channels last"


def pytorch(layer: Layer, threads: int) -> Started:
    """Float weights of -1 and 1 and float activations. The comparison of outputs uses their signs, which take the same time."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    weight = torch.from_numpy(2.0 * layer.bits() - 1).float()
    x = torch.from_numpy(np.where(layer.image() >= 0, 1, -1).astype(np.float32))
    if layer.side == 1:
        weight, x = weight[:, :, 0, 0], x[:, :, 0, 0]
        compute = partial(F.linear, x, weight)
    else:
        # Its own layout is the faster of both.
        weight, x = (t.contiguous(memory_format=torch.channels_last) for t in (weight, x))
        compute = partial(F.conv2d, x, weight, padding=layer.kernel // 2)

    def job() -> object:
        with torch.inference_mode():
            return compute()

    return job, lambda: compute().reshape(layer.channels, layer.side, layer.side).numpy(), "float32, channels last"


def openvino(layer: Layer, threads: int) -> Started:
    """BinaryConvolution of opset 1: activations become 0 and 1 in a FakeQuantize of two levels, weights are u1."""
    import openvino as ov
    from openvino import opset1 as op

    x = layer.image()
    parameter = op.parameter(list(x.shape), np.float32)
    threshold = op.constant(np.zeros((1, layer.channels, 1, 1), np.float32))
    zero, one = (op.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, 1))
    signs = op.fake_quantize(parameter, threshold, threshold, zero, one, 2)
    bits = layer.bits()
    packed = np.packbits(bits.reshape(-1), bitorder="little")
    weight = ov.op.Constant(ov.Tensor(packed, ov.Shape(list(bits.shape)), ov.Type.u1))
    sides = [layer.kernel // 2] * 2
    y = op.binary_convolution(signs, weight, [1, 1], sides, sides, [1, 1], "xnor-popcount", 0.0)
    hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(ov.Model([y], [parameter]), "CPU", hints | {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    request.infer([x])

    def output() -> Any:
        return request.infer([x])[0][0]

    return request.infer, output, "BinaryConvolution, opset 1, xnor-popcount, in its own layouts"


def larq(layer: Layer, threads: int) -> Started:
    """Larq Compute Engine: a Keras model of one QuantConv2D or QuantDense, converted."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import larq as lq
    import larq_compute_engine as lce
    import tensorflow as tf
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    # It counts bits if a convolution is padded with ones. With zeros it computes in floats.
    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False, "pad_values": 1}
    convolution = lq.layers.QuantConv2D(layer.channels, layer.kernel, padding="same", **signs)
    model = tf.keras.Sequential([tf.keras.Input((layer.side, layer.side, layer.channels)), convolution])
    convolution.set_weights([(2.0 * layer.bits() - 1).transpose(2, 3, 1, 0)])
    interpreter = Interpreter(lce.convert_keras_model(model), num_threads=threads)
    x = np.ascontiguousarray(layer.image().transpose(0, 2, 3, 1))

    def output() -> Any:
        return interpreter.predict(x)[0].transpose(2, 0, 1)

    found = ", ".join(f"{name} {version(name)}" for name in ("larq-compute-engine", "tensorflow"))
    return (
        partial(interpreter.predict, x),
        output,
        f"QuantConv2D, padded with ones, converted to its flat buffer; {found}",
    )


COMPETITORS: dict[str, Callable[[Layer, int], Started]] = {
    OURS: partial(onebit_layer, {"quantizer": "sign"}),
    "onebit, int8 activations": partial(onebit_layer, None),
    "PyTorch float32": pytorch,
    "OpenVINO BinaryConvolution": openvino,
    "Larq Compute Engine": larq,
}


def child(channel: Any, name: str, layer: Layer, threads: int, folder: Path) -> None:
    """A competitor's process: writes its output to a file, then a line of times for each line that it reads."""
    pin(threads)
    job, output, about = COMPETITORS[name](layer, threads)
    np.save(folder / f"{list(COMPETITORS).index(name)}.npy", np.ascontiguousarray(output()))
    print(json.dumps({"about": about}), file=channel, flush=True)
    for _ in sys.stdin:
        print(json.dumps({"ms": timed(job, RUNS, LEAST_MS)}), file=channel, flush=True)


def outputs(folder: Path, layer: Layer, names: list[str]) -> dict[str, str]:
    """How far the outputs agree with PyTorch's."""
    order = list(COMPETITORS)
    expected = np.load(folder / f"{order.index('PyTorch float32')}.npy") if "PyTorch float32" in names else None
    found = {}
    for name in names:
        y = np.load(folder / f"{order.index(name)}.npy")
        if expected is None or name == "PyTorch float32":
            found[name] = ""
        elif np.abs(y - expected).max() < TOLERANCE:
            found[name] = "equal"
        elif layer.side > 2 and np.abs(y - expected)[:, 1:-1, 1:-1].max() < TOLERANCE:
            found[name] = "equal but at the edges"
        else:
            found[name] = "other activations" if name == "onebit, int8 activations" else "different"
    return found


def measure(layer: Layer, threads: int, repeats: int, log: Path, larq_python: str, run: dict[str, Any]) -> None:
    """Run all competitors of one layer in turns. Adds to the run's results and absences."""
    with tempfile.TemporaryDirectory() as folder:
        place = LAYERS.index(layer)
        processes: dict[str, Process] = {}
        try:
            for name in COMPETITORS:
                words = ["--child", name, str(place), str(threads), folder]
                python = larq_python if COMPETITORS[name] is larq else sys.executable
                processes[name] = Process(words, threads, log, __file__, python)

            def turn(process: Process) -> list[float]:
                time.sleep(PAUSE_SECONDS)
                times: list[float] = process.ask("run").get("ms", [])
                return times

            turns = {name: partial(turn, process) for name, process in processes.items() if process.failure is None}
            times = interleaved(turns, repeats)
            equal = outputs(Path(folder), layer, [name for name in turns if processes[name].failure is None])
        finally:
            for process in processes.values():
                process.close()
    for name, process in processes.items():
        what = {"layer": layer.name, "threads": threads, "engine": name}
        if process.failure is not None:
            run["absent"].append(what | {"reason": process.failure})
            print(f"{layer.name}, {threads} threads, {name}: absent, {process.failure}", flush=True)
            continue
        ms = statistics.median(times[name])
        row = what | {"ms": ms, "fastest_ms": min(times[name]), "runs": len(times[name]), "output": equal[name]}
        run["results"].append(
            row | {"gmacs": layer.multiply_accumulates / ms / 1e6, "about": process.greeting["about"]}
        )
        print(f"{layer.name}, {threads} threads, {name}: {ms * 1e3:.1f} us", flush=True)


def markdown(run: dict[str, Any]) -> str:
    """The machine and a table: time, rate, the time compared with ours, and whether the outputs are the same."""
    machine = run["machine"]
    lines = [
        f"- processor: {machine['cpu']}, {machine['processors']} processors ({' '.join(machine['features'])})",
        f"- system: {machine['system']}, Python {machine['python']}",
        f"- versions: {', '.join(f'{name} {found}' for name, found in run['versions'].items())}",
        f"- command: `{run['command']}`",
        f"- time: {run['started']}; load of the machine at the start {machine['load'][0]:.2f}",
        "",
        "Medians, and the fastest run of each; *x* is the time over ours.",
        "",
        "| layer | threads | engine | microseconds | GMAC/s | x | fastest, microseconds | x | output |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    ours = {(row["layer"], row["threads"]): row for row in run["results"] if row["engine"] == OURS}
    for row in run["results"]:
        own = ours.get((row["layer"], row["threads"]))
        cells = [row["layer"], str(row["threads"]), f"**{OURS}**" if row["engine"] == OURS else row["engine"]]
        cells += [f"{row['ms'] * 1e3:.1f}", f"{row['gmacs']:.0f}", f"{row['ms'] / own['ms']:.2f}" if own else ""]
        cells += [f"{row['fastest_ms'] * 1e3:.1f}", f"{row['fastest_ms'] / own['fastest_ms']:.2f}" if own else ""]
        lines.append(f"| {' | '.join([*cells, row['output']])} |")
    lines += ["", "How they ran:", ""]
    about = dict.fromkeys(f"- {row['engine']}: {row['about']}" for row in run["results"])
    lines += [*about, "", "Absent:", ""]
    absent = [f"- {row['engine']}, {row['layer']}, {row['threads']} threads: {row['reason']}" for row in run["absent"]]
    return "\n".join(lines + (absent or ["- nobody"])) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        # Some libraries print to standard output: send everything but answers to standard error.
        with os.fdopen(os.dup(1), "w") as channel:
            os.dup2(2, 1)
            name, place, threads, folder = sys.argv[2:]
            try:
                child(channel, name, LAYERS[int(place)], int(threads), Path(folder))
            except BaseException as error:
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                print(json.dumps({"failure": reason}), file=channel, flush=True)
                raise
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--larq", default=sys.executable, help="the Python that has Larq Compute Engine")
    parser.add_argument("--repeats", type=int, default=15, help=f"rounds; {RUNS} runs count in each")
    arguments = parser.parse_args()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not all(1 <= threads <= processors for threads in arguments.threads):
        parser.error(f"--threads {arguments.threads}: use 1 to {processors}, the processors that this process may use")
    if arguments.repeats < 1:
        parser.error(f"--repeats {arguments.repeats}: use 1 or more")

    import onebit
    from onebit.fileformat import write_atomically

    versions = {"onebit": onebit.__version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out / "binary-activations.log"
    log.write_text("")
    run: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(["python", "benchmarks/binary_activations.py", *sys.argv[1:]]),
        "machine": {
            "cpu": cpu_name(),
            "features": cpu_features(),
            "processors": processors,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "load": list(os.getloadavg()),
        },
        "versions": versions,
        "layers": [asdict(layer) | {"multiply_accumulates": layer.multiply_accumulates} for layer in LAYERS],
        "results": [],
        "absent": [],
    }
    for layer in LAYERS:
        for threads in arguments.threads:
            measure(layer, threads, arguments.repeats, log, arguments.larq, run)
            content = (json.dumps(run, indent=1) + "\n").encode()
            write_atomically(arguments.out / "binary-activations.json", content)
            write_atomically(arguments.out / "binary-activations.md", markdown(run).encode())
    print(markdown(run))


if __name__ == "__main__":
    main()
