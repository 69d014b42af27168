"""The instruction sets that the engine can use on this machine, and how it runs a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError
from onebit.printable import printable
from onebit.program import Program, Step
from onebit.runtime import load


@dataclass(frozen=True)
class InstructionSet:
    """An instruction set that the engine has kernels for. `str` describes it in one line.

    Args:
        name: its name in `isa=` and ONEBIT_ISA.
        text: a description.
        needs: the CPU features that it uses.
        supported: whether this CPU has them.
        used: whether the engine uses it on this machine.
    """

    name: str
    text: str
    needs: tuple[str, ...]
    supported: bool
    used: bool

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self) | {"needs": list(self.needs)}

    def __str__(self) -> str:
        state = "runs here" if self.used else "supported" if self.supported else "not supported by this CPU"
        return f"{self.name:<8} {state:<26} {self.text} (needs {', '.join(self.needs) or 'nothing'})"


def instruction_sets() -> list[InstructionSet]:
    """The engine's instruction sets, the best first. Raises OnebitError if ONEBIT_ISA names one that cannot run."""
    from onebit._engine import Engine, isas

    try:
        used = Engine(Program("x", (1,), (Step("relu", ("x",), "y"),), "y").to_json(), {}, "float32", 1).isa
    except ValueError as error:
        raise OnebitError(str(error)) from None
    return [
        InstructionSet(isa["name"], isa["text"], tuple(isa["needs"]), isa["supported"], isa["name"] == used)
        for isa in reversed(isas())
    ]


@dataclass(frozen=True)
class Calibration:
    """Which kernels the engine prefers on this machine, among several with the same results. `str` is a few lines.

    Args:
        most_rows: dense layers use look-up tables for at most so many input rows; None for any number.
        least_image_gain: convolutions use look-up tables from this gain on; None for never.
        least_divided: threads divide a layer that has at least this number of products.
        source: how these values were found, in words.
        file: the file that keeps them; "" if there is none.
    """

    most_rows: int | None
    least_image_gain: float | None
    least_divided: int
    source: str
    file: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        rows, gain = self.most_rows, self.least_image_gain
        some = f"up to {rows:,} rows, more by panels of bytes" if rows else "no row"
        dense = "any number of rows" if rows is None else some
        images = "by panels of bytes" if gain is None else f"by look-ups from a gain of {gain} on"
        return "\n".join(
            [
                f"ways     {self.source}{printable(': ' + self.file) if self.file else ''}",
                f"         dense layers look bits up for {dense}; convolutions {images};",
                f"         threads divide layers from {self.least_divided:,} products on",
            ]
        )


def calibration(isa: str) -> Calibration:
    """The calibration of an instruction set on this machine. Raises OnebitError if ONEBIT_CALIBRATION is not valid."""
    from onebit._engine import calibration as found

    try:
        return Calibration(**found(isa))
    except ValueError as error:
        raise OnebitError(str(error)) from None


@dataclass(frozen=True)
class EnginePlan:
    """How the engine runs a file; `str` is a table.

    Args:
        precision: the engine's arithmetic, "int8" or "float32".
        steps: see `onebit.Session.plan`.
        arena_bytes: the size of the block of memory that holds all activations.
        weight_bytes: the size of the weights in the engine's layouts.
    """

    precision: str
    steps: tuple[dict[str, Any], ...]
    arena_bytes: int
    weight_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self) | {"steps": list(self.steps)}

    def __str__(self) -> str:
        rows = [("offset", "bytes", "shape", "weights", "step", "kernel")]
        for step in self.steps:
            shape = " x ".join(map(str, step["shape"]))
            weights = f"{step['weight_bytes']:,}" if step["weight_bytes"] else ""
            rows.append((f"{step['offset']:,}", f"{step['bytes']:,}", shape, weights, step["step"], step["kernel"]))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [f"  plan        {self.precision}, {len(self.steps)} steps as they run; activations lie in one block"]
        for row in rows:
            numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[:4], widths, strict=False))
            lines.append(f"    {numbers}  {row[4].ljust(widths[4])}  {row[5]}".rstrip())
        lines.append(f"  block of activations {self.arena_bytes:,} bytes, weights {self.weight_bytes:,} bytes")
        return "\n".join(lines)


def engine_plan(file: str | Path) -> EnginePlan:
    """How the engine runs a packed file on one thread: the steps, with their kernels and memory.

    Raises:
        FormatError: the file is damaged, foreign or of an unknown version.
        OnebitError: the engine cannot run it.
    """
    session = load(file, threads=1)
    steps = session.plan()
    weights = sum(step["weight_bytes"] for step in steps)
    return EnginePlan(session.precision, tuple(steps), session.arena_bytes, weights)
