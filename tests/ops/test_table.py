"""docs/program.md says of each op what its class declares: name, inputs, programs, attributes and tensors, cell by cell; and the engine's list has
the same ops."""

import re
from pathlib import Path

import numpy as np

from onebit.ops import OPS
from onebit.ops.declared import (
    Bits,
    Boolean,
    Bytes,
    Choice,
    Floats,
    GroupSize,
    Halves,
    Integer,
    Integers,
    Number,
    PerAxis,
    Planes,
    Quantizer,
    RotaryScaling,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "program.md"


def attribute_text(attribute):
    """As the page writes an attribute."""
    name = f"`{attribute.name}`"
    match attribute:
        case Integer():
            return name
        case Integers():
            return f"{name} [{', '.join(attribute.places)}]"
        case Number():
            return f"{name}: float > 0" if attribute.positive else f"{name}: float"
        case Boolean():
            return f"{name}: boolean"
        case Choice():
            return f"{name}: " + " or ".join(f'`"{word}"`' for word in attribute.allowed)
        case GroupSize():
            return f"{name}: 32, 64 or 128"
        case Planes() | PerAxis():
            return f"{name}: list"
        case Quantizer() | RotaryScaling():
            return f"{name}: object"
    raise TypeError(attribute)


def attributes_cell(op):
    required, optional = (
        ", ".join(attribute_text(a) for a in op.attributes if a.optional is choice) for choice in (False, True)
    )
    return "; ".join(part for part in (required, optional and f"optional {optional}") if part)


def tensor_text(tensor):
    match tensor:
        case Bits():
            kind = f"bits ({'planes * ' if tensor.planes else ''}{' x '.join(tensor.axes)})"
        case Halves() | Bytes():
            kind = f"{np.dtype(tensor.dtype)} ({', '.join(tensor.axes)})"
        case Floats():
            kind = f"float32 ({', '.join(tensor.axes)})"
        case _:
            raise TypeError(tensor)
    return f"`{tensor.role}`: {kind}" + (", optional" if tensor.optional else "")


def cells(op):
    tensors = "; ".join(map(tensor_text, op.tensors))
    return [f"`{op.name}`", op.count_of_inputs, op.programs.value, attributes_cell(op), tensors]


def table():
    """The rows of the table of ops, each as its cells."""
    lines = PAGE.read_text().split("\n## Ops\n")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert rows[0] == ["op", "inputs", "programs", "attributes", "tensors", "output"]
    return rows[2:]


def test_the_table_of_ops_is_what_the_ops_declare():
    found = {row[0]: row for row in table()}
    assert len(found) == len(table()) == len(OPS)
    for name, op in OPS.items():
        assert found[f"`{name}`"][:5] == cells(op)
        assert found[f"`{name}`"][5]


def test_the_engine_has_the_same_ops():
    text, unary = ((ROOT / "engine/src" / name).read_text() for name in ("ops.def", "kernels/unary.def"))
    rows = re.findall(r"^OP\((\w+), (\d), (\w+), \w+\)$", text, re.M)
    assert len(rows) == len(re.findall(r"^OP\(", text, re.M))
    engine = {name: (int(inputs), programs) for name, inputs, programs in rows}
    engine |= dict.fromkeys(re.findall(r"^UNARY\((\w+),", unary, re.M), (1, "any"))
    assert engine == {name: (op.inputs, op.programs.value.replace(" ", "_")) for name, op in OPS.items()}
