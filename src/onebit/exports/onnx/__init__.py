"""Export to an ONNX graph of standard operators, which any runtime of ONNX computes. Weights of bits take one bit each in the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from onebit.errors import OnebitError
from onebit.exports import Agreement
from onebit.fileformat import PackedModel, write_atomically
from onebit.printable import printable

if TYPE_CHECKING:
    import onnx

Weights = Literal["bits", "int2"]
EXTRA = 'pip install "onebit[onnx]"'
# Protocol buffers end there.
MOST_BYTES = (1 << 31) - 1
# The versions of ONNX's operators and of its files that a graph needs; its type of 2 bits is newer.
OPSET, IR = 21, 10
INT2_OPSET, INT2_IR = 25, 13


@dataclass(frozen=True)
class OnnxFile:
    """The result of writing an ONNX file.

    Args:
        nodes: the number of nodes of the graph.
        bytes, ratio: the size of the file, and in packed files.
        weights: ``"bits"`` or ``"int2"``.
        check: the comparison; None if it was not requested.
    """

    nodes: int
    bytes: int
    ratio: float
    weights: Weights
    check: Agreement | None

    def __str__(self) -> str:
        said = f"{self.nodes} nodes, {self.bytes:,} bytes, {self.ratio:.2f} of the packed file"
        if self.weights == "int2":
            said += (
                "; weights of 2 bits: onnxruntime rounds the inputs of such layers to 8 bits, so outputs are not exact"
            )
        return said


def write(model: PackedModel, out: Path, *, source: Path, weights: Weights = "bits", check: bool = False) -> OnnxFile:
    """Write a packed model as an ONNX graph of standard operators, in the numerics ``"float32"`` of docs/program.md.

    The input is float32 with channels last, (batch, height, width, channels) of 0 to 1, or int64 tokens (batch, time). The file's metadata has
    `task`, as docs/program.md describes it.

    Args:
        model: the model.
        out: the file.
        source: the model's file.
        weights: ``"bits"`` takes one bit for each weight and computes with the exact numbers. ``"int2"`` takes two for those of dense layers, which
            onnxruntime multiplies faster, after rounding the layer's inputs to 8 bits.
        check: compute random inputs in onnxruntime and in the engine, and compare them.

    Raises:
        OnebitError: the program has what ONNX export does not write, a package is missing, or the model is too large for a file of ONNX.
        OSError: the file cannot be written.
    """
    try:
        import onnx

        if check:
            import onnxruntime  # noqa: F401
    except ImportError as error:
        raise OnebitError(f"[export] onnx needs the package {error.name}: {EXTRA}") from None
    if weights not in ("bits", "int2"):
        raise OnebitError(f"[export] weights={weights!r}: use 'bits' or 'int2'")
    from onebit.exports.onnx.check import compare
    from onebit.exports.onnx.steps import graph_of

    made = graph_of(model, source, weights == "int2")
    file = onnx.helper.make_model(
        made,
        producer_name="onebit",
        opset_imports=[onnx.helper.make_opsetid("", INT2_OPSET if weights == "int2" else OPSET)],
        ir_version=INT2_IR if weights == "int2" else IR,
    )
    onnx.helper.set_model_props(file, {"task": json.dumps(model.task)})
    content = _bytes_of(file, source)
    agreement = compare(model, content, weights == "bits") if check else None
    write_atomically(out, content)
    return OnnxFile(len(made.node), len(content), len(content) / source.stat().st_size, weights, agreement)


def _bytes_of(file: onnx.ModelProto, source: Path) -> bytes:
    if file.ByteSize() > MOST_BYTES:
        raise OnebitError(
            f"[export] {printable(str(source))} has {file.ByteSize():,} bytes as ONNX: a file of ONNX has at most {MOST_BYTES:,}"
        )
    return file.SerializeToString()
