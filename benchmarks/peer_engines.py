"""The competitors of benchmarks/peers.py, with the code that runs each. Each runs in its own process.

Every library is imported where it is used. A library that cannot be imported is absent, and peers.py says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from image_network import CLASSES, as_float, random_pixels
from language_decoder import TOKENS, engine_reads, engine_writes, random_tokens, twin_writes
from peer_files import LLAMA_TYPES
from peer_workloads import (
    DECODER,
    DENSE_FEATURES,
    DENSE_ROWS,
    FIRST_TOKENS,
    IMAGE,
    KERNEL_SIZES,
    LAST_TOKENS,
    PROMPT,
    LlamaSizes,
    dense_job,
)

# A job, and the number of units of work, by which its time is divided.
Job = tuple[Callable[[], object], int]


@dataclass(frozen=True)
class Competitor:
    """One engine in one precision at one workload.

    `start` takes the folder of the files and the number of threads, and returns the jobs and a line about how the engine runs. `files` are made
    before, each from those listed before it.
    """

    workload: str
    engine: str
    variant: str
    start: Callable[[Path, int], tuple[dict[str, Job], str]]
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.engine} {self.variant}"

    @property
    def model(self) -> str:
        """Whose multiply-accumulates it computes; see `peer_workloads.multiply_accumulates`."""
        return "llama" if self.engine == "llama.cpp" else "onebit's"


def _dense_inputs() -> dict[int, Any]:
    rng = np.random.default_rng(0)
    return {rows: rng.standard_normal((rows, DENSE_FEATURES)).astype(np.float32) for rows in DENSE_ROWS}


# onebit


def onebit_cnn(kernel_size: int, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    import onebit

    session = onebit.load(folder / f"cnn{kernel_size}.onebit", threads=threads)
    pixels = random_pixels()
    return {IMAGE: (lambda: session(pixels), 1)}, session.isa


def onebit_decoder(folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    import onebit
    from onebit.runtime.text import TextSession

    session = onebit.load(folder / "decoder.onebit", threads=threads)
    assert isinstance(session, TextSession)
    engine, context = session._engine, session.context
    ids = random_tokens(session.tokenizer.size, context)
    return {
        FIRST_TOKENS: (engine_writes(engine, ids, 0), TOKENS),
        LAST_TOKENS: (engine_writes(engine, ids, context - TOKENS), TOKENS),
        PROMPT: (lambda: engine_reads(engine, ids), 1),
    }, session.isa


def onebit_dense(as_tokens: bool, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    """A layer of bits, over the rows of an array or over tokens, each of which an embedding of floats makes to a row."""
    from onebit._engine import Decoder, Engine
    from onebit.program import Program, Step, pack_rows

    features, isa = DENSE_FEATURES, ""
    bits = np.random.default_rng(0).integers(0, 2, (features, features), np.uint8)
    tensors: dict[str, Any] = {"bits": pack_rows(bits)}
    options = {"in_features": features, "out_features": features, "values": "pm1"}
    layer = Step("bit_linear", ("x",), "y", options, {"weight": "bits"})

    def over_array(x: Any) -> Job:
        nonlocal isa
        engine = Engine(Program("x", x.shape, (layer,), "y").to_json(), tensors, "int8", threads)
        isa = engine.isa
        return lambda: engine.run(x[None]), 1

    def over_tokens(x: Any) -> Job:
        nonlocal isa
        rows = len(x)
        embed = Step(
            "embedding", ("ids",), "x", {"rows": rows, "features": features, "of": "token"}, {"weight": "rows"}
        )
        program = Program("ids", (rows,), (embed, layer), "y", tokens=True)
        engine = Decoder(program.to_json(), tensors | {"rows": x}, "int8", threads)
        isa = engine.isa
        sequence, ids = engine.open(), np.arange(rows, dtype=np.int32)

        def run() -> None:
            engine.cut(sequence, 0)
            engine.extend([sequence], [rows], ids, all=True)

        return run, 1

    made = over_tokens if as_tokens else over_array
    return {dense_job(rows): made(x) for rows, x in _dense_inputs().items()}, isa


# PyTorch


def _pytorch(threads: int) -> tuple[Any, Callable[[Callable[[], object]], Callable[[], object]]]:
    """The library with this many threads, and a function that runs a job without gradients."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return torch, torch.inference_mode()


def pytorch_cnn(
    kernel_size: int, dtype: str, channels_last: bool, folder: Path, threads: int
) -> tuple[dict[str, Job], str]:
    torch, inference = _pytorch(threads)
    from onebit.models import conv_classifier

    layout = torch.channels_last if channels_last else torch.contiguous_format
    twin: Any = conv_classifier(kernel_size, CLASSES, binary=False).eval()
    twin = twin.to(getattr(torch, dtype)).to(memory_format=layout)
    x = torch.from_numpy(as_float(random_pixels())).to(getattr(torch, dtype)).contiguous(memory_format=layout)
    return {IMAGE: (inference(lambda: twin(x)), 1)}, torch.backends.cpu.get_cpu_capability()


def pytorch_decoder(dtype: str, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    torch, inference = _pytorch(threads)
    from onebit.models import language_decoder
    from onebit.models.decoder import NAMED_SIZES

    twin = language_decoder(DECODER, binary=False, form="paper").eval().to(getattr(torch, dtype))
    ids = random_tokens(NAMED_SIZES[DECODER]["vocabulary"], twin.context)
    batch = torch.from_numpy(ids[None].astype(np.int64))
    with torch.inference_mode():
        return {
            FIRST_TOKENS: (inference(twin_writes(twin, batch, 0)), TOKENS),
            LAST_TOKENS: (inference(twin_writes(twin, batch, twin.context - TOKENS)), TOKENS),
            PROMPT: (inference(lambda: twin.extend(batch, twin.caches())), 1),
        }, torch.backends.cpu.get_cpu_capability()


def pytorch_dense(dtype: str, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    torch, inference = _pytorch(threads)
    layer = torch.nn.Sequential(torch.nn.Linear(DENSE_FEATURES, DENSE_FEATURES, bias=False)).eval()
    about, input_type = torch.backends.cpu.get_cpu_capability(), torch.float32
    if dtype == "int8 dynamic":
        layer = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, torch.qint8)
        about += f", {torch.backends.quantized.engine}"
    else:
        input_type = getattr(torch, dtype)
        layer = layer.to(input_type)
    inputs = {rows: torch.from_numpy(x).to(input_type) for rows, x in _dense_inputs().items()}
    return {dense_job(rows): (inference(partial(layer, x)), 1) for rows, x in inputs.items()}, about


# ONNX Runtime


def _onnxruntime(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnxruntime_cnn(file: str, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    session, x = _onnxruntime(folder / file, threads), as_float(random_pixels())
    return {IMAGE: (lambda: session.run(None, {"x": x}), 1)}, ", ".join(session.get_providers())


def onnxruntime_dense(file: str, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    session = _onnxruntime(folder / file, threads)
    jobs: dict[str, Job] = {
        dense_job(rows): (partial(session.run, None, {"x": x}), 1) for rows, x in _dense_inputs().items()
    }
    return jobs, ", ".join(session.get_providers())


# OpenVINO


def _openvino(path: Path, threads: int, precision: str, x: Any) -> Job:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(x.shape)
    # Without the hint, floats would run as bfloat16 wherever the processor has it.
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    # Without sharing, input and output would be copied by Python.
    return lambda: request.infer([x], share_inputs=True, share_outputs=True), 1


def openvino_cnn(file: str, precision: str, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    about = f"INFERENCE_PRECISION_HINT={precision}"
    return {IMAGE: _openvino(folder / file, threads, precision, as_float(random_pixels()))}, about


def openvino_dense(file: str, precision: str, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    jobs = {dense_job(rows): _openvino(folder / file, threads, precision, x) for rows, x in _dense_inputs().items()}
    return jobs, f"INFERENCE_PRECISION_HINT={precision}"


# llama.cpp


def llama_decoder(file: str, folder: Path, threads: int) -> tuple[dict[str, Job], str]:
    import llama_cpp as library

    library.llama_backend_init()
    sizes = LlamaSizes()
    model = library.llama_model_load_from_file(str(folder / file).encode(), library.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp does not load {file}")
    ids = random_tokens(sizes.vocabulary, sizes.context).tolist()

    def decoder(context: Any) -> Callable[[list[int]], Any]:
        def decode(tokens: list[int]) -> Any:
            given = (library.llama_token * len(tokens))(*tokens)  # the batch points into it
            if status := library.llama_decode(context, library.llama_batch_get_one(given, len(tokens))):
                raise RuntimeError(f"llama_decode gives {status}")
            return np.ctypeslib.as_array(library.llama_get_logits_ith(context, -1), (sizes.vocabulary,))

        return decode

    def new_context() -> Any:
        options = library.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = sizes.context
        options.n_threads = options.n_threads_batch = threads
        context = library.llama_init_from_model(model, options)
        if not context:
            raise RuntimeError("llama.cpp makes no context")
        return context

    def cut(context: Any, length: int) -> None:
        library.llama_memory_seq_rm(library.llama_get_memory(context), 0, length, -1)

    def writes(start: int) -> Job:
        context = new_context()
        decode = decoder(context)
        if start:
            decode(ids[:start])

        def write() -> None:
            cut(context, start)
            token = ids[0]
            for _ in range(TOKENS):
                token = int(decode([token]).argmax())

        return write, TOKENS

    reader = new_context()

    def read() -> None:
        cut(reader, 0)
        decoder(reader)(ids)

    about = library.llama_print_system_info().decode().strip()
    return {
        FIRST_TOKENS: writes(0),
        LAST_TOKENS: writes(sizes.context - TOKENS),
        PROMPT: (read, 1),
    }, about


def competitors() -> list[Competitor]:
    """All of them, in the order of the tables."""
    made = []
    for k in KERNEL_SIZES:
        name, floats, runtime, vino = f"cnn {k}x{k}", f"cnn{k}.onnx", f"cnn{k}-int8.onnx", f"cnn{k}-int8.xml"
        made += [
            Competitor(name, "onebit", "int8", partial(onebit_cnn, k), (f"cnn{k}.onebit",)),
            Competitor(name, "PyTorch", "float32", partial(pytorch_cnn, k, "float32", False)),
            Competitor(name, "PyTorch", "float32, channels last", partial(pytorch_cnn, k, "float32", True)),
            Competitor(name, "PyTorch", "bfloat16", partial(pytorch_cnn, k, "bfloat16", True)),
            Competitor(name, "ONNX Runtime", "float32", partial(onnxruntime_cnn, floats), (floats,)),
            Competitor(name, "ONNX Runtime", "int8", partial(onnxruntime_cnn, runtime), (floats, runtime)),
            Competitor(name, "OpenVINO", "float32", partial(openvino_cnn, floats, "f32"), (floats,)),
            Competitor(name, "OpenVINO", "bfloat16", partial(openvino_cnn, floats, "bf16"), (floats,)),
            Competitor(name, "OpenVINO", "int8", partial(openvino_cnn, vino, "f32"), (floats, vino)),
        ]
    made += [
        Competitor("decoder", "onebit", "int8", onebit_decoder, ("decoder.onebit",)),
        Competitor("decoder", "PyTorch", "float32", partial(pytorch_decoder, "float32")),
        Competitor("decoder", "PyTorch", "bfloat16", partial(pytorch_decoder, "bfloat16")),
    ]
    for kind in LLAMA_TYPES:
        file = f"llama-{kind}.gguf"
        files = ("llama-F32.gguf",) if kind == "F32" else ("llama-F32.gguf", file)
        made.append(Competitor("decoder", "llama.cpp", kind, partial(llama_decoder, file), files))
    floats, runtime, vino = "dense.onnx", "dense-int8.onnx", "dense-int8.xml"
    made += [
        Competitor("dense", "onebit", "int8", partial(onebit_dense, True)),
        Competitor("dense", "onebit", "int8, rows of an array", partial(onebit_dense, False)),
        Competitor("dense", "PyTorch", "float32", partial(pytorch_dense, "float32")),
        Competitor("dense", "PyTorch", "bfloat16", partial(pytorch_dense, "bfloat16")),
        Competitor("dense", "PyTorch", "int8 dynamic", partial(pytorch_dense, "int8 dynamic")),
        Competitor("dense", "ONNX Runtime", "float32", partial(onnxruntime_dense, floats), (floats,)),
        Competitor("dense", "ONNX Runtime", "int8 dynamic", partial(onnxruntime_dense, runtime), (floats, runtime)),
        Competitor("dense", "OpenVINO", "float32", partial(openvino_dense, floats, "f32"), (floats,)),
        Competitor("dense", "OpenVINO", "bfloat16", partial(openvino_dense, floats, "bf16"), (floats,)),
        Competitor("dense", "OpenVINO", "int8", partial(openvino_dense, vino, "f32"), (floats, vino)),
    ]
    return made
