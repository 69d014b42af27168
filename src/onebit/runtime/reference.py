"""The NumPy reference: runs a program op by op in plain code. It serves reading and tests, and is not fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops import OPS
from onebit.ops.op import Array, Precision
from onebit.program import Program, Tensors


def run(program: Program, tensors: Tensors, batch: NDArray[Any], precision: Precision = "int8") -> Array:
    """Run a program on a batch.

    Args:
        program: a program that its `shapes` has checked.
        tensors: arrays by name.
        batch: (n, *input shape), uint8 (divided by 255) or float32. A program over tokens takes integers (n, time).
        precision: ``"int8"`` quantises the inputs of the binary layers, ``"float32"`` does not.

    Returns:
        float32 (n, *output shape), or (n, time, features) for a program over tokens.
    """
    x: NDArray[Any]
    if program.tokens:
        x = batch
    else:
        x = batch.astype(np.float32) / np.float32(255) if batch.dtype == np.uint8 else batch.astype(np.float32)
    values: dict[str, Array] = {program.input_name: x}
    with np.errstate(all="ignore"):  # NaN and infinity are valid results here
        for step in program.steps:
            named = {role: tensors[name] for role, name in step.tensors.items()}
            inputs = [values[name] for name in step.inputs]
            values[step.output] = OPS[step.op].run(step.attributes, named, precision, *inputs)
    return values[program.output]
