"""Export to a safetensors file of plain numbers: bits become the numbers that they stand for, without padding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit import __version__
from onebit.errors import OnebitError
from onebit.exports import Check, Written
from onebit.fileformat import PackedModel, safetensors_header, write_safetensors
from onebit.ops import OPS
from onebit.ops.binary import planes_of, read_weight
from onebit.ops.bit_rows import read_row, unpack_rows
from onebit.ops.declared import Bits
from onebit.ops.op import Precision
from onebit.program import Program, Shape, Step
from onebit.random_inputs import random_inputs
from onebit.runtime import reference

DType = Literal["float32", "int8"]
# The reference is plain NumPy, so only a few inputs and a short text are computed.
CHECKED_IMAGES, CHECKED_TOKENS = 2, 16
# The version of the metadata. Increase it when readers must change.
EXPORT_VERSION = "1"

_PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
Tensors = dict[str, NDArray[Any]]


def write(model: PackedModel, out: Path, *, dtype: DType = "float32", check: bool = False) -> Written:
    """Write the weights of a packed model as plain numbers.

    The tensors keep their names in the packed file, such as ``features.0.weight``. A dense weight has the axes (outputs, inputs), a convolution's
    (outputs, height, width, inputs of a group), and an embedding's (rows, features). The metadata has `program`, `task`, `tensors` (for each tensor
    its op, its role, its axes and the meaning of its values), `onebit_version` and `onebit_export`. All but the last two are JSON.

    Args:
        model: the model to write.
        out: the file.
        dtype: ``"float32"`` for all tensors, or ``"int8"`` for the values of bits as integers (int16 if several bits per weight need it). Scales
            and other floats stay float32.
        check: read the file back and compute the program from it with the NumPy reference.

    Raises:
        OnebitError: `dtype` is neither.
        OSError: the file cannot be written.
    """
    if dtype not in ("float32", "int8"):
        raise OnebitError(f"[export] dtype={dtype!r}: use 'float32' or 'int8'")
    found, about, steps = _expanded(model, dtype)
    # Wide numbers come first, so that they are aligned.
    tensors = {name: found[name] for name in sorted(found, key=lambda name: (-found[name].dtype.itemsize, name))}
    metadata = {
        "onebit_export": EXPORT_VERSION,
        "onebit_version": __version__,
        "program": replace(model.program, steps=tuple(steps)).to_json(),
        "task": json.dumps(model.task),
        "tensors": json.dumps(about),
    }
    size = write_safetensors(out, safetensors_header(tensors, metadata), tensors)
    values = sum(tensor.size for tensor in tensors.values())
    return Written(len(tensors), values, size, _check(model, out) if check else None)


def _expanded(model: PackedModel, dtype: DType) -> tuple[Tensors, dict[str, Any], list[Step]]:
    """The tensors, a description of each, and the steps with the names of the tensors."""
    tensors: Tensors = {}
    about: dict[str, Any] = {}
    steps = []
    for step in model.program.steps:
        names = {}
        for role, name in step.tensors.items():
            values, axes, counts = _plain(model, step, role, dtype)
            if name in tensors and not np.array_equal(tensors[name], values):
                name = f"{name}.{step.output}"  # the same bits, which have other values in this step
            tensors[name] = values
            about[name] = {"op": step.op, "role": role, "axes": axes, "counts": counts}
            names[role] = name
        steps.append(replace(step, tensors=names))
    return tensors, about, steps


def _plain(model: PackedModel, step: Step, role: str, dtype: DType) -> tuple[NDArray[Any], list[str], str]:
    """A tensor of a step as plain numbers, with the names of its axes and the meaning of its values."""
    op, stored = OPS[step.op], model.tensors[step.tensors[role]]
    declared = next(tensor for tensor in op.tensors if tensor.role == role)
    if not isinstance(declared, Bits):
        return stored, list(declared.axes), "floats"
    a = step.attributes
    sizes = op.sizes(a, model.shapes[step.inputs[0]])
    if role == "mask":
        ones = unpack_rows(stored, declared.lengths(sizes)[1])
        values, axes, counts = ones.astype(np.int32), list(declared.axes), "0 or 1"
    elif role == "bias":
        values, axes = read_row(stored, declared.lengths(sizes)[1], a["values"]), [declared.axes[1]]
        counts = _counts(a["values"], [1])
    else:
        shape, axes = _float_shape(model, step)
        values, counts = read_weight(a, stored, shape), _counts(a["values"], planes_of(a))
    if dtype == "float32":
        return values.astype(np.float32), axes, counts
    return values.astype(np.int8 if np.abs(values).max(initial=0) <= 127 else np.int16), axes, counts


def _float_shape(model: PackedModel, step: Step) -> tuple[Shape, list[str]]:
    """The shape and the axes of a binary op's weight, which are those of the equivalent float op."""
    twin = OPS[step.op.removeprefix("bit_")]
    declared = next(tensor for tensor in twin.tensors if tensor.role == "weight")
    sizes = twin.sizes(step.attributes, model.shapes[step.inputs[0]])
    return declared.shape(sizes), list(declared.axes)


def _counts(values: str, planes: list[int]) -> str:
    one = "0 or 1" if values == "01" else "-1 or 1"
    if len(planes) == 1 and planes[0] == 1:
        return one
    return f"the sum over {len(planes)} bits, {one}, times {', '.join(map(str, planes))}"


def read(path: Path) -> tuple[Program, Tensors]:
    """The program and the tensors of an exported file, as `onebit.runtime.reference.run` takes them."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        program = Program.from_json(file.metadata()["program"])
        return program, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping


def _check(model: PackedModel, path: Path) -> Check:
    """Compute random inputs from the packed file and from the exported one, in both precisions."""
    program, tensors = read(path)
    random = np.random.default_rng(0)
    shape = model.program.input_shape
    if model.program.tokens:
        rows = min(step.attributes["rows"] for step in model.program.steps if step.attributes.get("of") == "token")
        inputs: NDArray[Any] = random.integers(0, rows, (1, min(shape[0], CHECKED_TOKENS)))
    else:
        inputs = random.integers(0, 256, (CHECKED_IMAGES, *shape), np.uint8)
    batches = {model.program.input_name: inputs}
    if not (model.program.tokens or model.program.takes_one_array):
        batches = random_inputs(model.program, CHECKED_IMAGES)
    values = different = 0
    for precision in _PRECISIONS:
        every = reference.run_all(model.program, model.tensors, batches, precision)
        for name, found in reference.run_all(program, tensors, batches, precision).items():
            expected = every[name]
            values += expected.size
            different += int(np.sum((expected != found) & ~(np.isnan(expected) & np.isnan(found))))
    return Check(len(next(iter(batches.values()))), values, different)
