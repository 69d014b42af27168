"""The NumPy reference: runs a program op by op in plain code. It serves reading and tests, and is not fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onebit.ops import OPS
from onebit.ops.exit import Exit
from onebit.ops.op import Array, Precision
from onebit.program import Program, Tensors


def run(program: Program, tensors: Tensors, batch: NDArray[Any], precision: Precision = "int8") -> Array:
    """Run a program of one input on a batch.

    Args:
        program: a program that its `shapes` has checked.
        tensors: arrays by name.
        batch: (n, *input shape), uint8 (divided by 255) or float32. A program over tokens takes integers (n, time).
        precision: ``"int8"`` quantises the inputs of the binary layers, ``"float32"`` does not.

    Returns:
        float32 (n, *output shape), or (n, time, features) for a program over tokens. Of several outputs, the first.
    """
    return run_to_exits(program, tensors, batch, precision)[0]


def run_to_exits(
    program: Program,
    tensors: Tensors,
    batch: NDArray[Any],
    precision: Precision = "int8",
    threshold: float | None = None,
) -> tuple[Array, NDArray[np.int32]]:
    """`run`, and where the program ended for each example.

    Args:
        program, tensors, batch, precision: as in `run`.
        threshold: takes the place of the thresholds of all exits; 1 lets nothing end early. None: those of the program.

    Returns:
        The output, and for each example the number of exits that it passed: the number of all exits if the program did not end early.
    """
    values: dict[str, Any] = {program.input_name: _entered(program, program.inputs[0].integers, batch)}
    ended = np.full(len(batch), -1, np.int32)
    early: dict[int, Array] = {}  # the output of each exit
    passed = 0
    with np.errstate(all="ignore"):  # NaN and infinity are valid results here
        for step in program.steps:
            named = {role: tensors[name] for role, name in step.tensors.items()}
            inputs = [values[name] for name in step.inputs]
            values[step.output] = OPS[step.op].run(step.attributes, named, precision, *inputs)
            if step.op == "exit":
                early[passed] = values[step.output]
                ends = cast(Exit, OPS["exit"]).ends(step.attributes, values[step.output], threshold)
                ended[(ended < 0) & ends] = passed
                passed += 1
    result = values[program.output].copy() if early else values[program.output]
    for place, outputs in early.items():
        result[ended == place] = outputs[ended == place]
    ended[ended < 0] = passed
    return result, ended


def run_all(
    program: Program, tensors: Tensors, batches: Mapping[str, NDArray[Any]], precision: Precision = "int8"
) -> dict[str, Array]:
    """Run a program on a batch of each of its inputs, given by their names. Returns all outputs by their names; see `run`."""
    values: dict[str, Any] = {
        source.name: _entered(program, source.integers, batches[source.name]) for source in program.inputs
    }
    with np.errstate(all="ignore"):  # NaN and infinity are valid results here
        for step in program.steps:
            named = {role: tensors[name] for role, name in step.tensors.items()}
            inputs = [values[name] for name in step.inputs]
            values[step.output] = OPS[step.op].run(step.attributes, named, precision, *inputs)
    return {name: values[name] for name in program.outputs}


def _entered(program: Program, integers: bool, x: NDArray[Any]) -> NDArray[Any]:
    """An input as steps read it: tokens and other integers as they are, bytes as parts of 255."""
    if integers or program.tokens:
        return x
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)
