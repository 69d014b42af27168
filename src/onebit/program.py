"""The packed program: a list of steps over named values, and its tensors. `onebit.ops` defines the ops of steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onebit.errors import FormatError
from onebit.ops import OPS
from onebit.ops.bit_rows import pack_rows, row_bytes, unpack_rows
from onebit.ops.declared import MAX_AXIS, Shape
from onebit.ops.op import StepReader, Tensors
from onebit.ops.windows import MAX_VALUE_ELEMENTS
from onebit.strict_json import excerpt, parse

__all__ = ["OPS", "Program", "Shape", "Step", "Tensors", "pack_rows", "row_bytes", "unpack_rows"]


@dataclass(frozen=True)
class Step:
    """One step of a program. `op`, with its attributes and the names of its tensors, turns named values into a named value."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Steps over named values. Shapes are channels-last and do not include the batch axis.

    Args:
        input_name, input_shape: the name and the shape of the input.
        steps: the steps, in the order in which they run.
        output: the name of the output.
        tokens: whether the input is a sequence of at most `input_shape[0]` tokens. Every value then has one row per token, and a row depends only
            on its own token and those before it.
    """

    input_name: str
    input_shape: Shape
    steps: tuple[Step, ...]
    output: str
    tokens: bool = False

    def to_json(self) -> str:
        """The program as JSON, in the form of docs/program.md."""
        steps = [
            {
                "op": s.op,
                "inputs": list(s.inputs),
                "output": s.output,
                "attributes": dict(s.attributes),
                "tensors": dict(s.tensors),
            }
            for s in self.steps
        ]
        return json.dumps(
            {
                "input": {
                    "name": self.input_name,
                    "shape": list(self.input_shape),
                    **({"kind": "tokens"} if self.tokens else {}),
                },
                "steps": steps,
                "output": self.output,
            },
            separators=(",", ":"),  # the JSON is part of the file, which should be small
        )

    @classmethod
    def from_json(cls, text: str) -> Program:
        """Read the form that `to_json` writes. Raises FormatError for any other form. Call `shapes` to check the steps."""
        tree = _typed(parse(text, "program"), dict, "its JSON")
        _refuse_unknown(tree, ("input", "steps", "output"), "its JSON")
        source = _typed(tree.get("input"), dict, "input")
        _refuse_unknown(source, ("name", "shape", "kind"), "input")
        shape = _axes(source.get("shape"), "input.shape")
        if "kind" in source and (source["kind"] != "tokens" or len(shape) != 1):
            raise FormatError(f"[program] input.kind={excerpt(source['kind'])}: only 'tokens', with one axis, is known")
        return cls(
            input_name=_typed(source.get("name"), str, "input.name"),
            input_shape=shape,
            steps=tuple(_step(item, f"steps[{i}]") for i, item in enumerate(_typed(tree.get("steps"), list, "steps"))),
            output=_typed(tree.get("output"), str, "output"),
            tokens="kind" in source,
        )

    def shapes(self, tensors: Tensors) -> dict[str, Shape]:
        """Check the whole program against its tensors, and return the shape of every value.

        Raises:
            FormatError: an op is unknown, a value is used before it is made, or made twice, or an attribute, a shape or a tensor does not fit.
        """
        shapes: dict[str, Shape] = {self.input_name: self.input_shape}
        _check_size(self.input_shape, "input")
        for index, step in enumerate(self.steps):
            shapes[step.output] = self.step_shape(index, step, shapes, tensors)
        if self.output not in shapes or (self.tokens and self.output == self.input_name):
            raise FormatError(f"[program] its output {excerpt(self.output)} is made by no step")
        for index, step in enumerate(self.steps):
            if step.op == "exit" and shapes[step.output] != shapes[self.output]:
                raise FormatError(
                    f"[step {index} (exit)] its input has shape {shapes[step.output]}: needs that of the program's output, {shapes[self.output]}"
                )
        return shapes

    def step_shape(self, index: int, step: Step, shapes: Mapping[str, Shape], tensors: Tensors) -> Shape:
        """Check the step at `index`, given the shapes of all values before it, and return the shape of its output. Raises like `shapes`."""
        if step.op not in OPS:
            raise FormatError(
                f"[step {index}] unknown op {excerpt(step.op)}: this version knows {', '.join(sorted(OPS))}; use a newer onebit"
            )
        where = f"step {index} ({step.op})"
        for name in step.inputs:
            if name not in shapes:
                raise FormatError(f"[{where}] uses the value {excerpt(name)} before any step makes it")
        if step.output in shapes:
            raise FormatError(f"[{where}] makes the value {excerpt(step.output)} a second time")
        op = OPS[step.op]
        if len(step.inputs) != op.inputs:
            raise FormatError(f"[{where}] has {len(step.inputs)} inputs: needs {op.inputs}")
        reader = StepReader(where, op, step.attributes, step.tensors, tensors)
        shape = op.check(reader, [shapes[name] for name in step.inputs], self.tokens)
        if not self.tokens:  # of tokens only some rows are in memory at a time
            _check_size(shape, where)
        return shape


def _step(item: Any, where: str) -> Step:
    _typed(item, dict, where)
    _refuse_unknown(item, ("op", "inputs", "output", "attributes", "tensors"), where)
    return Step(
        op=_typed(item.get("op"), str, f"{where}.op"),
        inputs=tuple(
            _typed(name, str, f"{where}.inputs[{i}]")
            for i, name in enumerate(_typed(item.get("inputs"), list, f"{where}.inputs"))
        ),
        output=_typed(item.get("output"), str, f"{where}.output"),
        attributes=_typed(item.get("attributes", {}), dict, f"{where}.attributes"),
        tensors={
            role: _typed(name, str, f"{where}.tensors.{role}")
            for role, name in _typed(item.get("tensors", {}), dict, f"{where}.tensors").items()
        },
    )


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise FormatError(f"[program] {where} needs {_KINDS[kind]}; the file is damaged")
    return value


def _refuse_unknown(item: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse keys that this version does not know. Ignoring what a later version adds would give wrong numbers silently."""
    unknown = sorted(set(item) - set(known))
    if unknown:
        raise FormatError(f"[program] {where} has what this version does not know: {', '.join(map(excerpt, unknown))}")


def _axes(value: Any, where: str) -> Shape:
    whole = isinstance(value, list) and all(type(a) is int and 1 <= a <= MAX_AXIS for a in value)
    if not whole or not 1 <= len(value) <= 4:
        raise FormatError(f"[program] {where}={excerpt(value)}: needs 1 to 4 integers from 1 to {MAX_AXIS}")
    return tuple(value)


def _check_size(shape: Shape, where: str) -> None:
    if math.prod(shape) > MAX_VALUE_ELEMENTS:
        raise FormatError(f"[{where}] a value of shape {shape} has more than {MAX_VALUE_ELEMENTS} elements")
