"""Compare an ONNX file in onnxruntime with the engine, on random inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.exports import Agreement
from onebit.fileformat import PackedModel
from onebit.ops import OPS
from onebit.runtime import reference
from onebit.runtime.verify import FLOAT32_TOLERANCE, ROUNDED_SHARE
from onebit.runtime.verify import compare as differences

IMAGES, TOKENS = 16, 32
# With weights of 2 bits, onnxruntime rounds the inputs of a layer to 8 bits, and a deep network adds the differences up.
INEXACT = 0.2


def inputs_for(model: PackedModel, count: int = IMAGES) -> NDArray[Any]:
    """Random inputs: float32 numbers of pixels, or tokens of one text."""
    random = np.random.default_rng(0)
    program = model.program
    if program.tokens:
        rows = min(step.attributes["rows"] for step in program.steps if step.attributes.get("of") == "token")
        return random.integers(0, rows, (1, min(program.input_shape[0], TOKENS)))
    return (random.integers(0, 256, (count, *program.input_shape)) / 255).astype(np.float32)


def engine_outputs(model: PackedModel, x: NDArray[Any]) -> NDArray[Any]:
    """The outputs in the numerics "float32": of the engine, and for tokens of the NumPy reference."""
    if model.program.tokens or not model.program.steps:
        return reference.run(model.program, model.tensors, x, "float32")
    from onebit._engine import Engine

    outputs: NDArray[Any] = Engine(model.program.to_json(), model.tensors, "float32", 1).run(x)
    return outputs


def session(content: bytes) -> Any:
    """A file in onnxruntime, with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def compare(model: PackedModel, content: bytes, exact: bool) -> Agreement:
    """Compute random inputs both ways. With quantised inputs some examples may round to another level (`ROUNDED_SHARE` of them, and at least one)."""
    import onnxruntime

    x = inputs_for(model)
    expected = engine_outputs(model, x)
    found = session(content).run(None, {"input": x})[0]
    width = expected.shape[-1]
    apart = differences(found.reshape(-1, width), expected.reshape(-1, width))
    rounded, relative = 0, apart.relative
    quantised = any("input" in step.attributes for step in model.program.steps if step.op in OPS)
    if exact and quantised and relative > FLOAT32_TOLERANCE:
        by_row = [
            differences(f.reshape(-1, width), e.reshape(-1, width)).relative
            for f, e in zip(found, expected, strict=True)
        ]
        kept = [value for value in by_row if value <= FLOAT32_TOLERANCE]
        rounded = len(by_row) - len(kept)
        if rounded <= max(1, ROUNDED_SHARE * len(by_row)) and kept:
            relative = max(kept)
        else:
            rounded = 0
    name = f"onnxruntime {onnxruntime.__version__}"
    allowed = FLOAT32_TOLERANCE if exact else INEXACT
    return Agreement(name, len(x), relative, allowed, apart.changed, apart.compared, rounded)
