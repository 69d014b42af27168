"""Export to C99 for microcontrollers: one header and one source, without allocation and without a library."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from onebit.errors import OnebitError
from onebit.exports import Check
from onebit.exports.c import compiled, cores
from onebit.exports.c.groups import group, one_row
from onebit.exports.c.layouts import LAYOUTS, files
from onebit.exports.c.names import checked
from onebit.exports.c.plan import plan
from onebit.exports.c.source import Source
from onebit.exports.c.source import write as write_source
from onebit.exports.c.supported import unsupported
from onebit.exports.refusals import refuse
from onebit.fileformat import PackedModel
from onebit.printable import printable

__all__ = ["Firmware", "write"]

# What the functions of a run may add to the static memory of a core that is named: kept free when layers are planned.
STACK_BYTES = 1024
# Without a compiler for the core its code is not measured; no model has had more.
CODE_BYTES = 12 << 10


@dataclass(frozen=True)
class Firmware:
    """The result of writing C.

    Args:
        name: of the functions and files.
        constant_bytes: of weights and other constants, in flash.
        flash_bytes: constants and code by the compiler; None where there is none for the core.
        ram_bytes: the static memory of a run.
        stack_bytes: the deepest stack of a run by the compiler; None where there is none.
        compiler: what measured flash and stack.
        products: multiplications by weights of a run.
        again: those of them that are computed a second time to save memory, besides.
        files: how many were written.
        check: the comparison with the engine; None if it was not requested.
    """

    name: str
    constant_bytes: int
    flash_bytes: int | None
    ram_bytes: int
    stack_bytes: int | None
    compiler: str
    products: int
    again: int
    files: int
    check: Check | None

    def __str__(self) -> str:
        if self.flash_bytes is None or self.stack_bytes is None:
            measured = (
                f"flash {self.constant_bytes:,} bytes of constants, and code: install {self.compiler} to know how much"
            )
            stack = ""
        else:
            code = self.flash_bytes - self.constant_bytes
            measured = f"flash {self.flash_bytes:,} bytes ({self.constant_bytes:,} of constants, {code:,} of code by {self.compiler})"
            stack = f" and {self.stack_bytes:,} of stack"
        again = f", and {self.again:,} of them twice to save memory" if self.again else ""
        return (
            f"{self.files} files\n  {measured}\n  RAM {self.ram_bytes:,} bytes static{stack}\n"
            f"  {self.products:,} products a run{again}"
        )


def write(
    model: PackedModel,
    out: Path,
    *,
    source: Path,
    check: int = 0,
    name: str | None = None,
    layout: str = "plain",
    core: str | None = None,
    flash: int | None = None,
    ram: int | None = None,
) -> Firmware:
    """Write a packed model as C99 that any microcontroller's compiler takes.

    Answers are those of the engine with ``precision="int8"``, bit for bit.

    Args:
        model: the model.
        out: the folder; it may not exist.
        source: the model's file.
        check: compile the source here, and compare its outputs of so many random inputs with the engine's; true for 100.
        name: of files and functions, by default the file's.
        layout: ``"plain"`` (with a Makefile), ``"arduino"`` (a library) or ``"zephyr"`` (a module).
        core: for which core sizes are measured, and whose memory the model has to fit in: ``"cortex-m4"`` and others.
        flash, ram: the bytes of flash and RAM that it may take. By default those of a usual part with the core.

    Raises:
        OnebitError: the program has ops without C, the name is not one of C, or the memory is too small. Nothing is written then.
        OSError: the folder cannot be written.
    """
    if layout not in LAYOUTS:
        raise OnebitError(f"[export] layout={layout!r}: use {', '.join(LAYOUTS)}")
    chosen = checked(name, source)
    fit = cores.limits(core, flash, ram)
    refuse(source, "c", unsupported(model))
    pixels = model.task["kind"] == "image-classification"
    model = one_row(model)
    grouped = group(model, pixels)
    budget = None if fit.ram is None else max(fit.ram - STACK_BYTES - 256, 0)
    planned = plan(model, grouped, None)
    if budget is not None and planned.arena > budget:
        planned = plan(model, grouped, budget)
    text = write_source(model, grouped, planned, chosen, pixels)
    measured = compiled.measure(text, chosen, core)
    _refuse_too_large(text, measured, fit, source)
    found = None
    if check:
        found = compiled.check(model, text, chosen, pixels, 100 if check is True else check)
    written = files(text, chosen, layout, measured)
    _put(out, written)
    return Firmware(
        chosen,
        text.constant_bytes,
        measured.flash_bytes,
        text.ram_bytes,
        measured.stack_bytes,
        measured.compiler,
        planned.products,
        planned.again,
        len(written),
        found,
    )


def _refuse_too_large(text: Source, measured: compiled.Measured, fit: cores.Limits, source: Path) -> None:
    flash = measured.flash_bytes if measured.flash_bytes is not None else text.constant_bytes + CODE_BYTES
    ram = text.ram_bytes + (measured.stack_bytes if measured.stack_bytes is not None else STACK_BYTES)
    for what, needs, has in (("flash", flash, fit.flash), ("RAM", ram, fit.ram)):
        if has is not None and needs > has:
            raise OnebitError(
                f"[export] {printable(source)} needs {needs:,} bytes of {what}, more than the {has:,} of {fit.of}: "
                f"use a smaller network, or give the part's own --flash and --ram"
            )


def _put(out: Path, written: dict[str, str]) -> None:
    part = out.with_name(f".{out.name[:40]}.{os.urandom(4).hex()}.part")
    try:
        part.mkdir()
        try:
            for name, text in written.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_text(text, encoding="utf-8")
            part.rename(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from None
