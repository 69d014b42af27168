"""Decides how each value is stored, which layers are computed twice to save memory, and where everything lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from onebit.exports.c.groups import Group, Grouped
from onebit.exports.c.memory import Item, place
from onebit.fileformat import PackedModel
from onebit.program import Shape, Step

# Without a limit of RAM, layers are computed a second time as long as this adds no more than so much of the network's products.
MORE_PRODUCTS = 0.15
TABLE_INPUTS = 128  # of a chunk: sums of so many bytes fit in 16 bits
FLOATS = "floats"


@dataclass(frozen=True)
class Stored:
    """A value as it lies in memory.

    Args:
        value: its name.
        form: "floats"; or how it is quantised: "sign", "unit8", "absmax8", "auto".
    """

    value: str
    form: str

    @property
    def ranged(self) -> bool:
        """Whether all numbers must be known before the first can be quantised."""
        return self.form == "auto" or self.form.startswith("absmax")


@dataclass
class Work:
    """A function of the C source.

    Args:
        group: its group; None for one that quantises a stored value.
        reads: what it reads.
        writes: what it makes.
        twice: whether it computes all rows twice, first for their range.
        scratch: bytes by the names of buffers that it needs while it runs.
    """

    group: Group | None
    reads: list[Stored]
    writes: Stored
    twice: bool = False
    scratch: dict[str, int] = field(default_factory=dict)


@dataclass
class Plan:
    """The functions in their order, the offset of everything in the block, and the block's size."""

    work: list[Work]
    offsets: dict[str, int]
    arena: int
    products: int
    again: int


def form_of(step: Step) -> str:
    """How a binary layer quantises its input."""
    given = step.attributes.get("input")
    if given is None:
        return "auto"
    return "sign" if given["quantizer"] == "sign" else f"{given['quantizer']}{given['bits']}"


def nbytes(stored: Stored, shape: Shape) -> int:
    """The bytes of a stored value."""
    if stored.form == FLOATS:
        return 4 * math.prod(shape)
    if stored.form == "sign":
        return math.prod(shape[:-1]) * ((shape[-1] + 7) // 8)
    return math.prod(shape)


def products_of(step: Step | None, shapes: dict[str, Shape]) -> int:
    """The multiplications of a layer, each plane's counted."""
    if step is None or "weight" not in step.tensors:
        return 0
    a, y = step.attributes, shapes[step.output]
    planes = len(a.get("planes", [1]))
    if "kernel_size" in a:
        return planes * math.prod(y) * math.prod(a["kernel_size"]) * a["in_channels"] // a["groups"]
    return planes * math.prod(y) * int(a["in_features"])


def plan(model: PackedModel, grouped: Grouped, budget: int | None) -> Plan:
    """The plan of a model.

    Args:
        model: the model.
        grouped: its groups.
        budget: the bytes that the block may take; None for as few as `MORE_PRODUCTS` gives.
    """
    total = sum(products_of(g.head, model.shapes) for g in grouped.groups)
    twice: set[str] = set()
    made = _laid_out(model, grouped, twice, total)
    again = 0
    while budget is None or made.arena > budget:
        best: Plan | None = None
        name = ""
        for work in made.work:
            g = work.group
            if g is None or g.output in twice or not _can_be_twice(model, grouped, g):
                continue
            cost = products_of(g.head, model.shapes)
            if budget is None and again + cost > MORE_PRODUCTS * total:
                continue
            tried = _laid_out(model, grouped, twice | {g.output}, total)
            gain = best is None or tried.arena < best.arena or (tried.arena == best.arena and tried.again < best.again)
            if tried.arena < made.arena and gain:
                best, name = tried, g.output
        if best is None:
            break
        twice.add(name)
        made, again = best, best.again
    return made


def _needs(model: PackedModel, grouped: Grouped) -> dict[str, set[str]]:
    """For each value that lies in memory, the forms in which it is read."""
    needs: dict[str, set[str]] = {}
    for g in grouped.groups:
        for name in g.inputs:
            base, _ = grouped.base(name)
            conv = g.head is not None and g.head.op == "bit_conv2d" and base == name
            needs.setdefault(base, set()).add(form_of(g.head) if conv and g.head else FLOATS)
            if g.head is not None and g.head.op == "bit_conv2d" and base != name:
                needs.setdefault(name, set()).add(form_of(g.head))
        for name in g.others:
            needs.setdefault(grouped.base(name)[0], set()).add(FLOATS)
    needs.setdefault(grouped.base(model.program.output)[0], set()).add(FLOATS)
    return needs


def _can_be_twice(model: PackedModel, grouped: Grouped, g: Group) -> bool:
    needs = _needs(model, grouped).get(g.output, {FLOATS})
    head = g.head.op if g.head else "copy"
    repeats = head in ("copy", "bit_conv2d", "conv2d", "bit_linear", "linear", "max_pool2d", "concatenate")
    return repeats and len(needs) == 1 and Stored(g.output, next(iter(needs))).ranged


def _laid_out(model: PackedModel, grouped: Grouped, twice: set[str], products: int) -> Plan:
    needs = _needs(model, grouped)
    program = model.program
    work: list[Work] = []
    made: set[Stored] = set()
    again = 0
    for g in grouped.groups:
        reads: list[Stored] = []
        for name in g.inputs:
            base, _ = grouped.base(name)
            if g.head is not None and g.head.op == "bit_conv2d":
                wanted = Stored(name, form_of(g.head))
                if wanted not in made:
                    work.append(Work(None, [Stored(base, FLOATS)], wanted))
                    made.add(wanted)
                reads.append(wanted)
            else:
                reads.append(Stored(base, FLOATS))
        reads += [Stored(grouped.base(name)[0], FLOATS) for name in g.others]
        forms = needs.get(g.output, {FLOATS})
        form = next(iter(forms)) if len(forms) == 1 else FLOATS
        once = not Stored(g.output, form).ranged or not g.inputs
        if form != FLOATS and not once and g.output not in twice:
            form = FLOATS
        writes = Stored(g.output, form)
        both = writes.ranged
        again += products_of(g.head, model.shapes) if both else 0
        made.add(writes)
        work.append(Work(g, reads, writes, both, _scratch(model, g, writes)))
    items, names = _items(model, work, program.output, program.input_name)
    arena = place(items)
    offsets = {name: items[i].offset for name, i in names.items()}
    return Plan(work, offsets, arena, products, again)


def key(stored: Stored) -> str:
    """The name of a stored value in the plan's offsets."""
    return f"{stored.value}:{stored.form}"


def scratch_key(index: int, buffer: str) -> str:
    """The name of a function's buffer in the plan's offsets."""
    return f"{index}/{buffer}"


def _items(model: PackedModel, work: list[Work], output: str, given: str) -> tuple[list[Item], dict[str, int]]:
    lives: dict[Stored, list[int]] = {}
    for t, one in enumerate(work):
        lives.setdefault(one.writes, [t, t])
        for read in one.reads:
            if read in lives:
                lives[read][1] = t
    items: list[Item] = []
    names: dict[str, int] = {}
    for t, one in enumerate(work):
        stored = one.writes
        first, last = lives[stored]
        size = nbytes(stored, model.shapes[stored.value])
        source = one.reads[0] if one.reads else None
        # Rows that are read before they are written, at the same place or below, may lie where they are read from.
        moves = one.group is None or (one.group.head is None and one.group.pool is None and stored.form == FLOATS)
        if moves and source is not None and source in lives and lives[source][1] == t and key(source) in names:
            same = model.shapes[source.value] == model.shapes[stored.value] or one.group is None
            if same and one.reads.count(source) == 1 and stored != Stored(output, FLOATS):
                index = names[key(source)]
                items[index].spans.append((first + 1, last, size)) if last > first else None
                names[key(stored)] = index
                continue
        if stored != Stored(output, FLOATS):
            names[key(stored)] = len(items)
            items.append(Item(key(stored), [(first, last, size)]))
    for t, one in enumerate(work):
        for buffer, size in one.scratch.items():
            names[scratch_key(t, buffer)] = len(items)
            items.append(Item(scratch_key(t, buffer), [(t, t, size)]))
    return items, names


def _scratch(model: PackedModel, g: Group, writes: Stored) -> dict[str, int]:
    made: dict[str, int] = {}
    head = g.head
    shapes = model.shapes
    if head is not None and head.op.startswith("bit_"):
        made |= _layer_scratch(head, shapes)
    if g.pool is not None:
        made["part"] = 4 * shapes[g.pool.inputs[0]][-1]
    if writes.form != FLOATS:
        made["row"] = 4 * shapes[g.output][-1]
    return made


def _layer_scratch(head: Step, shapes: dict[str, Shape]) -> dict[str, int]:
    a: Any = head.attributes
    outputs = shapes[head.output][-1]
    rows = len(a.get("planes", [1])) * outputs
    convolution = head.op == "bit_conv2d"
    inputs = math.prod(a["kernel_size"]) * a["in_channels"] // a["groups"] if convolution else a["in_features"]
    words = (inputs + 31) // 32
    if form_of(head) == "sign":
        return {"sums": 4 * rows, "bits": 4 * words * (2 if convolution else 1)}
    table = 64 * ((min(inputs, TABLE_INPUTS) + 3) // 4)
    if not convolution:
        return {"sums": 4 * rows, "table": table}
    if depthwise(head, shapes):
        return {"sums": 4 * rows}
    return {"sums": 8 * rows, "table": table, "bytes": 2 * ((inputs + 3) // 4 * 4)}


def depthwise(head: Step, shapes: dict[str, Shape]) -> bool:
    """Whether each channel of a convolution has taps of its own."""
    a = head.attributes
    return "groups" in a and a["groups"] > 1 and a["groups"] == a["in_channels"] == shapes[head.output][-1]
