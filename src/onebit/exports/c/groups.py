"""Divides a program into groups: a head, which makes rows of numbers, and the steps that change each row as it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from onebit.fileformat import PackedModel
from onebit.program import Shape, Step

# Ops of one number or of one row, which follow a head without memory of their own.
UNARY = ("relu", "relu_squared", "gelu", "hard_sigmoid", "hard_swish", "sigmoid", "tanh", "silu")
ROW_OPS = (*UNARY, "scale_shift", "scale", "clip", "prelu", "softmax", "rms_normalize")
# Ops that read a second value, or a constant of the value's own shape, at the same place.
PLACE_OPS = ("add", "multiply", "add_constant")
# Ops that give other names and shapes to numbers that stay where they are.
VIEWS = ("rows", "reshape", "last")
WEIGHTED = ("bit_linear", "linear", "bit_conv2d", "conv2d")
HEADS = (*WEIGHTED, "max_pool2d", "avg_pool2d", "mean_pool", "mean_magnitude", "concatenate", "flatten", "slice", "transpose", "prepend")  # fmt: skip


@dataclass
class Group:
    """Steps that run as one function of the C source.

    Args:
        head: the step that makes rows; None where they are read as they are: from the pixels, or from a value.
        inputs: the values that the head reads.
        before, pool, after: the steps on each row, a max-pooling among them if there is one, and the steps after it.
        output: the value that the last of them makes.
        last: the index of the program's step that is the last of them.
    """

    head: Step | None
    inputs: tuple[str, ...]
    output: str
    last: int
    before: list[Step] = field(default_factory=list)
    pool: Step | None = None
    after: list[Step] = field(default_factory=list)

    @property
    def steps(self) -> list[Step]:
        """The steps on rows, in order, without the pooling."""
        return self.before + self.after

    @property
    def others(self) -> list[str]:
        """The values that the steps on rows read besides the row."""
        return [name for step in self.steps for name in step.inputs[1:]]

    @property
    def names(self) -> str:
        """The ops, for a comment."""
        made = [self.head.op if self.head else "copy", *(s.op for s in self.before)]
        made += [self.pool.op] if self.pool else []
        return ", ".join(made + [s.op for s in self.after])


@dataclass(frozen=True)
class View:
    """A value whose numbers are those of another, from one of them on."""

    of: str
    first: int


@dataclass(frozen=True)
class Grouped:
    """A program in groups, in the order in which they run, and its views."""

    groups: list[Group]
    views: dict[str, View]

    def base(self, value: str) -> tuple[str, int]:
        """The value whose memory holds another one, and where in it."""
        first = 0
        while value in self.views:
            first += self.views[value].first
            value = self.views[value].of
        return value, first


def one_row(model: PackedModel) -> PackedModel:
    """The same model, in which what is normalised over all numbers of an example is one row of them."""
    steps: list[Step] = []
    for step in model.program.steps:
        shape = model.shapes[step.output]
        if step.op != "normalize" or step.attributes["over"] != "example" or len(shape) == 1:
            steps.append(step)
            continue
        row, made = f"{step.output}/row", f"{step.output}/normal"
        steps.append(Step("reshape", step.inputs, row, {"shape": [math.prod(shape)]}))
        steps.append(Step("normalize", (row,), made, {"over": "channel", "eps": step.attributes["eps"]}))
        steps.append(Step("reshape", (made,), step.output, {"shape": list(shape)}))
    return PackedModel(replace(model.program, steps=tuple(steps)), model.tensors, model.task)


def uses_of(model: PackedModel) -> dict[str, int]:
    """How often each value is read; the program's output once more."""
    program = model.program
    uses = dict.fromkeys(model.shapes, 0)
    for step in program.steps:
        for name in step.inputs:
            uses[name] += 1
    uses[program.output] += 1
    return uses


def group(model: PackedModel, pixels: bool) -> Grouped:
    """The groups of a program whose ops `unsupported` has found to be known.

    Args:
        model: the model.
        pixels: whether the input is bytes, which a first group makes floats of.
    """
    program, shapes = model.program, model.shapes
    uses = uses_of(model)
    of: dict[str, Group] = {}
    groups: list[Group] = []
    views: dict[str, View] = {}

    def begin(made: Group) -> None:
        of[made.output] = made
        groups.append(made)

    if pixels:
        begin(Group(None, (), program.input_name, -1))
    for index, step in enumerate(program.steps):
        view = _view(step, shapes[step.inputs[0]], shapes[step.output])
        if view is not None and step.output != program.output:
            views[step.output] = view
            continue
        made = _joined(step, shapes, uses, of)
        if made is not None:
            del of[made.output]
            made.output, made.last = step.output, index
            of[step.output] = made
        elif step.op in HEADS and view is None:
            begin(Group(step, step.inputs, step.output, index))
        else:
            given = step.inputs[0]
            rows = [_first(step, given)]
            if view is not None:  # of the output, which lies in the caller's memory
                given, rows = f"{step.output}/view", []
                views[given] = view
            begin(Group(None, (given,), step.output, index, rows))
    groups.sort(key=lambda one: one.last)
    return Grouped(groups, views)


def _view(step: Step, x: Shape, y: Shape) -> View | None:
    if step.op in VIEWS:
        return View(step.inputs[0], 0 if step.op != "last" else (x[0] - 1) * x[1])
    if step.op == "flatten" and (step.attributes["order"] == "hwc" or len(x) < 3 or x[0] * x[1] == 1):
        return View(step.inputs[0], 0)
    if step.op == "slice" and step.attributes["axis"] == 0:
        numbers = 1
        for axis in x[1:]:
            numbers *= axis
        return View(step.inputs[0], int(step.attributes["start"]) * numbers)
    return None


def row_op(step: Step, shape: Shape) -> bool:
    """Whether a step changes rows one by one, each by itself."""
    if step.op == "normalize":
        return step.attributes["over"] == "channel" or len(shape) == 1
    if step.op == "group_normalize":
        return len(shape) != 3
    return step.op in ROW_OPS or step.op in PLACE_OPS


def _joined(step: Step, shapes: dict[str, Shape], uses: dict[str, int], of: dict[str, Group]) -> Group | None:
    """The group that takes the step in, which then is among its steps; None if there is none."""
    x = step.inputs[0]
    if step.op == "max_pool2d":
        one = of.get(x)
        if one is None or uses[x] != 1 or one.pool is not None or not _side_by_side(step):
            return None
        if one.head is None or one.head.op not in ("bit_conv2d", "conv2d"):
            return None
        if any(s.op in PLACE_OPS for s in one.before):
            return None
        one.pool = step
        return one
    if not row_op(step, shapes[x]):
        return None
    names = step.inputs if step.op == "add" or _equal(step, shapes) else step.inputs[:1]
    fitting = [n for n in dict.fromkeys(names) if n in of and uses[n] == 1 and not (step.inputs.count(n) > 1)]
    if not fitting:
        return None
    value = max(fitting, key=lambda n: of[n].last)
    made = of[value]
    (made.after if made.pool is not None else made.before).append(_first(step, value))
    return made


def _first(step: Step, value: str) -> Step:
    """The same step, of a sum or a product, with the value as its first input."""
    rest = list(step.inputs)
    rest.remove(value)
    return Step(step.op, (value, *rest), step.output, step.attributes, step.tensors)


def _equal(step: Step, shapes: dict[str, Shape]) -> bool:
    return step.op == "multiply" and shapes[step.inputs[0]] == shapes[step.inputs[1]]


def _side_by_side(step: Step) -> bool:
    a = step.attributes
    return list(a["kernel_size"]) == list(a["stride"]) and not any(a["padding"])
