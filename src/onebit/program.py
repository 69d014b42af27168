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

__all__ = ["OPS", "Input", "Program", "Shape", "Step", "Tensors", "pack_rows", "row_bytes", "unpack_rows"]

# The most inputs, and the most outputs, of a program.
MAX_PLACES = 16


@dataclass(frozen=True)
class Step:
    """One step of a program. `op`, with its attributes and the names of its tensors, turns named values into a named value."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    """An input of a program over arrays.

    Args:
        name, shape: its name, and its shape without the batch axis, channels last.
        integers: whether it holds integers from 0, which only embeddings read.
    """

    name: str
    shape: Shape
    integers: bool = False

    def to_json(self) -> dict[str, Any]:
        """The input as plain JSON values."""
        return {"name": self.name, "shape": list(self.shape), **({"kind": "integers"} if self.integers else {})}


@dataclass(frozen=True)
class Program:
    """Steps over named values. Shapes are channels-last and do not include the batch axis.

    Args:
        input_name, input_shape: the name and the shape of the first input.
        steps: the steps, in the order in which they run.
        output: the name of the first output.
        tokens: whether the input is a sequence of at most `input_shape[0]` tokens. Every value then has one row per token, and a row depends only
            on its own token and those before it.
        integers: whether the first input holds integers.
        more_inputs, more_outputs: those after the first, of programs over arrays.
    """

    input_name: str
    input_shape: Shape
    steps: tuple[Step, ...]
    output: str
    tokens: bool = False
    integers: bool = False
    more_inputs: tuple[Input, ...] = ()
    more_outputs: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """All inputs."""
        return (Input(self.input_name, self.input_shape, self.integers), *self.more_inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all outputs."""
        return (self.output, *self.more_outputs)

    @property
    def takes_one_array(self) -> bool:
        """Whether its only input is an array of numbers, and it has one output."""
        return not (self.tokens or self.integers or self.more_inputs or self.more_outputs)

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
        first, *more = [source.to_json() for source in self.inputs]
        if self.tokens:
            first["kind"] = "tokens"
        tree = {
            **({"inputs": [first, *more]} if more else {"input": first}),
            "steps": steps,
            **({"outputs": list(self.outputs)} if self.more_outputs else {"output": self.output}),
        }
        return json.dumps(tree, separators=(",", ":"))  # the JSON is part of the file, which should be small

    @classmethod
    def from_json(cls, text: str) -> Program:
        """Read the form that `to_json` writes. Raises FormatError for any other form. Call `shapes` to check the steps."""
        tree = _typed(parse(text, "program"), dict, "its JSON")
        _refuse_unknown(tree, ("input", "inputs", "steps", "output", "outputs"), "its JSON")
        for one, several in (("input", "inputs"), ("output", "outputs")):
            if one in tree and several in tree:
                raise FormatError(f"[program] its JSON has both {one!r} and {several!r}: keep one")
        if "inputs" in tree:
            sources = [_input(item, f"inputs[{i}]", False) for i, item in enumerate(_several(tree, "inputs"))]
        else:
            sources = [_input(tree.get("input"), "input", True)]
        tokens = "input" in tree and tree["input"].get("kind") == "tokens"
        outputs = (
            [_typed(name, str, f"outputs[{i}]") for i, name in enumerate(_several(tree, "outputs"))]
            if "outputs" in tree
            else [_typed(tree.get("output"), str, "output")]
        )
        steps = tuple(_step(item, f"steps[{i}]") for i, item in enumerate(_typed(tree.get("steps"), list, "steps")))
        if tokens and len(outputs) > 1:
            raise FormatError("[program] outputs: a program over tokens has one output")
        for what, names in (("inputs", [source.name for source in sources]), ("outputs", outputs)):
            twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
            if twice is not None:
                raise FormatError(f"[program] {what} name {excerpt(twice)} twice")
        first, *more = sources
        return cls(
            input_name=first.name,
            input_shape=first.shape,
            steps=steps,
            output=outputs[0],
            tokens=tokens,
            integers=first.integers,
            more_inputs=tuple(more),
            more_outputs=tuple(outputs[1:]),
        )

    def shapes(self, tensors: Tensors) -> dict[str, Shape]:
        """Check the whole program against its tensors, and return the shape of every value.

        Raises:
            FormatError: an op is unknown, a value is used before it is made, or made twice, or an attribute, a shape or a tensor does not fit.
        """
        shapes: dict[str, Shape] = {}
        for source in self.inputs:
            _check_size(source.shape, "input")
            shapes[source.name] = source.shape
        for index, step in enumerate(self.steps):
            shapes[step.output] = self.step_shape(index, step, shapes, tensors)
        whole = self._integer_names | ({self.input_name} if self.tokens else set())
        for output in self.outputs:
            if output not in shapes or output in whole:
                raise FormatError(f"[program] its output {excerpt(output)} is made by no step")
        read = {name for step in self.steps for name in step.inputs} | set(self.outputs)
        for source in self.inputs:
            if source.name not in read:
                raise FormatError(f"[program] nothing reads its input {excerpt(source.name)}: leave it out")
        plain = len(self.inputs) == 1 and len(self.outputs) == 1 and not self._integer_names
        for index, step in enumerate(self.steps):
            if step.op != "exit":
                continue
            where = f"[step {index} (exit)]"
            if not plain:
                raise FormatError(f"{where} has no meaning for several inputs or outputs, or for integers")
            if shapes[step.output] != shapes[self.output]:
                raise FormatError(
                    f"{where} its input has shape {shapes[step.output]}: needs that of the program's output, {shapes[self.output]}"
                )
        return shapes

    @property
    def _integer_names(self) -> set[str]:
        return {source.name for source in self.inputs if source.integers}

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
        if not op.inputs <= len(step.inputs) <= op.inputs + op.optional_inputs:
            raise FormatError(f"[{where}] has {len(step.inputs)} inputs: needs {op.count_of_inputs}")
        reader = StepReader(where, op, step.attributes, step.tensors, tensors)
        integers = [name in self._integer_names for name in step.inputs]
        shape = op.check(reader, [shapes[name] for name in step.inputs], self.tokens, integers)
        if not self.tokens:  # of tokens only some rows are in memory at a time
            _check_size(shape, where)
        return shape


def _several(tree: Mapping[str, Any], name: str) -> list[Any]:
    """A list of several inputs or outputs."""
    listed = tree[name]
    if not isinstance(listed, list) or not 2 <= len(listed) <= MAX_PLACES:
        raise FormatError(f"[program] {name} needs a list of 2 to {MAX_PLACES}; the file is damaged")
    return listed


def _input(item: Any, where: str, alone: bool) -> Input:
    source = _typed(item, dict, where)
    _refuse_unknown(source, ("name", "shape", "kind"), where)
    shape = _axes(source.get("shape"), f"{where}.shape")
    kinds = ("tokens", "integers") if alone else ("integers",)
    if "kind" in source and (source["kind"] not in list(kinds) or len(shape) != 1):
        known = "'tokens' and 'integers', with one axis, are" if alone else "'integers', with one axis, is"
        raise FormatError(f"[program] {where}.kind={excerpt(source['kind'])}: only {known} known")
    return Input(_typed(source.get("name"), str, f"{where}.name"), shape, source.get("kind") == "integers")


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
