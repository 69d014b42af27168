"""The C source and the header of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources

from onebit.exports.c.chain import chain
from onebit.exports.c.groups import Grouped
from onebit.exports.c.heads import Where, _levels_from, head
from onebit.exports.c.parts import Parts
from onebit.exports.c.plan import FLOATS, Plan, Stored, Work, key, scratch_key
from onebit.fileformat import PackedModel


@dataclass(frozen=True)
class Source:
    """The texts of a model, and the bytes of its constants and of its static memory."""

    header: str
    source: str
    constant_bytes: int
    ram_bytes: int


_MEMORY = """/* All memory that the network needs. Values that are never needed at the same time lie over each other. */
static union {
    double aligned;
    uint8_t bytes[@arena@];
} memory;
#define AT(type, offset) ((type *)(void *)(memory.bytes + (offset)))
"""


class _Writer:
    def __init__(self, model: PackedModel, grouped: Grouped, plan: Plan, name: str, pixels: bool) -> None:
        self.model, self.grouped, self.plan, self.name, self.pixels = model, grouped, plan, name, pixels
        self.parts = Parts()
        self.levels: dict[str, str] = {}
        self.written = {key(work.writes) for work in plan.work}

    # How the C names things

    def floats(self, value: str) -> str:
        base, first = self.grouped.base(value)
        if base == self.model.program.output:
            return "outputs"
        if base == self.model.program.input_name and not self.pixels:
            return f"(input + {first})" if first else "input"
        text = f"AT(float, {self.plan.offsets[key(Stored(base, FLOATS))]})"
        return f"({text} + {first})" if first else text

    def bytes(self, value: str, form: str) -> str:
        return f"AT(uint8_t, {self.plan.offsets[key(Stored(value, form))]})"

    def levels_of(self, value: str, form: str) -> str:
        return self.levels.setdefault(key(Stored(value, form)), f"levels_{len(self.levels)}")

    # Functions

    def function(self, index: int, work: Work) -> str:
        lines = self.quantising(work) if work.group is None else self.grouped_rows(index, work)
        names = f"{work.writes.form} of a value" if work.group is None else work.group.names
        shape = " x ".join(map(str, self.model.shapes[work.writes.value]))
        body = "\n".join(f"    {line}" for line in lines)
        return f"/* {names}: {shape} */\nSTEP step_{index}({self.arguments(work, True)}) {{\n{body}\n}}\n"

    def arguments(self, work: Work, typed: bool) -> str:
        program = self.model.program
        used = {read.value for read in work.reads if read.form == FLOATS}
        made = []
        if work.group is not None and not work.group.inputs:
            made.append("const uint8_t *pixels" if typed else "pixels")
        if program.input_name in used and not self.pixels:
            made.append("const float *input" if typed else "input")
        if work.writes.value == program.output or program.output in used:
            made.append("float *outputs" if typed else "outputs")
        return ", ".join(made) or ("void" if typed else "")

    def quantising(self, work: Work) -> list[str]:
        stored = work.writes
        shape = self.model.shapes[stored.value]
        x, to = self.floats(stored.value), self.bytes(stored.value, stored.form)
        n, channels = math.prod(shape), shape[-1]
        if stored.form == "sign":
            self.parts.need("bits")
            stride = (channels + 7) // 8
            return [
                f"for (int32_t i = 0; i < {n // channels}; ++i) store_signs({x} + i * {channels}, {channels}, {to} + i * {stride});"
            ]
        self.parts.need("store_levels")
        lines = ["struct levels levels;"]
        if stored.ranged:
            lines += ["struct range range = {0, 0};", f"include(&range, {x}, {n});"]
        lines.append(_levels_from(stored.form, self.parts))
        return [
            *lines,
            f"store_levels({x}, {n}, &levels, {to});",
            f"{self.levels_of(stored.value, stored.form)} = levels;",
        ]

    def grouped_rows(self, index: int, work: Work) -> list[str]:
        g = work.group
        assert g is not None
        model, stored = self.model, work.writes
        where = Where(
            self.floats,
            self.bytes,
            self.levels_of,
            lambda kind, name: f"AT({kind}, {self.plan.offsets[scratch_key(index, name)]})",
        )
        made = head(g, self.parts, model, where)
        shape = model.shapes[g.output]
        positions, n = math.prod(shape[:-1]), shape[-1]
        last = [*self.store(stored, n, work.twice)]
        row = f"{self.floats(g.output)} + o * {n}" if stored.form == FLOATS else where.scratch("float", "row")
        if g.pool is not None:
            body = self.pooled(work, made, where, row, last)
        else:
            body = [f"for (int32_t i = 0; i < {positions}; ++i) {{"]
            inner = [f"float *const row = {row.replace('o *', 'i *')};"]
            if made.places:
                inner += self.places("i", positions, shape[1], 1, 1)
            inner += [*made.each, *chain(g.before, self.parts, model, self.floats, "i")]
            inner += [line.replace("[o]", "[i]").replace(" o *", " i *") for line in last]
            body += [*(f"    {line}" for line in inner), "}"]
        return [*made.before, *self.passes(stored, body, work.twice)]

    def places(self, i: str, positions: int, width: int, pool_h: int, pool_w: int) -> list[str]:
        self.parts.need("place")
        lines = ["int32_t at[4];", f"place({i}, {width}, {pool_h}, {pool_w}, at);"]
        return [*lines, f"place({i} + 1 < {positions} ? {i} + 1 : {i}, {width}, {pool_h}, {pool_w}, at + 2);"]

    def pooled(self, work: Work, made, where: Where, row: str, last: list[str]) -> list[str]:  # type: ignore[no-untyped-def]
        g = work.group
        assert g is not None and g.pool is not None
        model = self.model
        self.parts.need("max_into")
        pool_h, pool_w = g.pool.attributes["kernel_size"]
        height, width, n = model.shapes[g.pool.output]
        size = pool_h * pool_w
        within = width * pool_w  # columns beyond the last window are not computed
        each = [f"const int32_t i = o * {size} + k;", f"float *const row = {where.scratch('float', 'part')};"]
        each += self.places("i", height * width * size, within, pool_h, pool_w)
        each += [*made.each, *chain(g.before, self.parts, model, self.floats, "i")]
        each += [
            "if (k == 0) {",
            f"    memcpy(most, row, {n} * sizeof *row);",
            "} else {",
            f"    max_into(most, row, {n});",
            "}",
        ]
        outer = [f"float *const most = {row};", f"for (int32_t k = 0; k < {size}; ++k) {{"]
        outer += [*(f"    {line}" for line in each), "}"]
        rest = [*chain(g.after, self.parts, model, self.floats, "o"), *last]
        if rest:
            outer += ["float *const row = most;", *rest]
        return [f"for (int32_t o = 0; o < {height * width}; ++o) {{", *(f"    {line}" for line in outer), "}"]

    def store(self, stored: Stored, n: int, twice: bool) -> list[str]:
        if stored.form == FLOATS:
            return []
        to = self.bytes(stored.value, stored.form)
        if stored.form == "sign":
            self.parts.need("bits")
            return [f"store_signs(row, {n}, {to} + o * {(n + 7) // 8});"]
        self.parts.need("store_levels")
        store = f"store_levels(row, {n}, &levels, {to} + o * {n});"
        if not twice:
            return [store]
        self.parts.need("range")
        return ["if (pass == 0) {", f"    include(&range, row, {n});", "} else {", f"    {store}", "}"]

    def passes(self, stored: Stored, body: list[str], twice: bool) -> list[str]:
        if stored.form in (FLOATS, "sign"):
            return body
        keep = f"{self.levels_of(stored.value, stored.form)} = levels;"
        if not twice:
            return ["struct levels levels;", _levels_from(stored.form, self.parts), *body, keep]
        lines = ["struct range range = {0, 0};", "struct levels levels = {1.0f, 1.0f, 0.0f, 0.0f, 0u, 1};"]
        lines += [
            "/* First for the range of the numbers, then to keep them as bytes. */",
            "for (int32_t pass = 0; pass < 2; ++pass) {",
        ]
        inner = [*body, f"if (pass == 0) {_levels_from(stored.form, self.parts)}"]
        return [*lines, *(f"    {line}" for line in inner), "}", keep]

    # Files

    def write(self) -> Source:
        functions = [self.function(i, work) for i, work in enumerate(self.plan.work)]
        statics = "".join(f"static struct levels {name};\n" for name in self.levels.values())
        ram = self.plan.arena + 24 * len(self.levels)
        calls = "\n".join(f"    step_{i}({self.arguments(work, False)});" for i, work in enumerate(self.plan.work))
        model = self.model
        shape = model.shapes[model.program.output]
        values = {
            "name": self.name,
            "NAME": self.name.upper(),
            "inputs": str(math.prod(model.program.input_shape)),
            "input_shape": " x ".join(map(str, model.program.input_shape)),
            "outputs": str(math.prod(shape)),
            "output_shape": " x ".join(map(str, shape)),
            "argument": "const uint8_t *pixels" if self.pixels else "const float *input",
            "given": "pixels, 0 to 255, a row after the other, channels last" if self.pixels else "numbers",
            "ram": str(ram),
            "memory": _MEMORY.replace("@arena@", str(self.plan.arena)) if self.plan.arena else "",
            "products": str(self.plan.products),
            "constants": self.parts.constants,
            "kernels": self.parts.kernels,
            "statics": statics,
            "functions": "\n".join(functions),
            "calls": calls,
        }
        return Source(_fill("model.h", values), _fill("model.c", values), self.parts.constant_bytes, ram)


def _fill(template: str, values: dict[str, str]) -> str:
    text = resources.files("onebit.exports.c").joinpath(f"templates/{template}").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def write(model: PackedModel, grouped: Grouped, plan: Plan, name: str, pixels: bool) -> Source:
    """The header and the source of a model with this name."""
    return _Writer(model, grouped, plan, name, pixels).write()
