"""Compiles a source: for its sizes with a core's compiler, and on this machine to compare its answers with the engine's."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.exports import Check
from onebit.exports.c.cores import CORES
from onebit.exports.c.source import Source
from onebit.fileformat import PackedModel

FLAGS = ("-std=c99", "-Os", "-ffp-contract=off", "-fno-strict-aliasing", "-ffunction-sections", "-fdata-sections")
_SECONDS = 600  # for a compiler, or for a check
_HOST = """#include "@name@.h"
#include <stdio.h>
int main(void) {
    static @type@ x[@NAME@_INPUTS];
    static float y[@NAME@_OUTPUTS];
    while (fread(x, sizeof x, 1, stdin) == 1) {
        @name@_run(x, y);
        if (fwrite(y, sizeof y, 1, stdout) != 1) return 1;
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Measured:
    """Sizes by a compiler: constants and code, and the deepest stack; None where there is no compiler."""

    flash_bytes: int | None
    stack_bytes: int | None
    compiler: str


def host_compiler() -> str | None:
    """A C compiler of this machine: what CC names, or cc, gcc or clang."""
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def measure(text: Source, name: str, core: str | None) -> Measured:
    """The sizes of a source for a core, or for a Cortex-M4 where none is named."""
    of = CORES[core or "cortex-m4"]
    label = f"{of.compiler} for {core or 'cortex-m4'}"
    compiler, size = shutil.which(of.compiler), shutil.which(of.compiler.replace("gcc", "size"))
    if compiler is None or size is None:
        return Measured(None, None, label)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _put(work, text, name)
        flags = [*of.flags, *_includes(of.compiler), *FLAGS, "-fcallgraph-info=su"]
        _run([compiler, *flags, "-c", f"{name}.c"], work, f"{of.compiler} of {name}.c")
        sections = _run([size, "-A", f"{name}.o"], work, "size").decode()
        graph = next(work.glob("*.ci")).read_text()
    found = re.findall(r"^\.(text|rodata|data|srodata|sdata)\S*\s+(\d+)", sections, re.MULTILINE)
    return Measured(sum(int(n) for _, n in found), deepest(graph, f"{name}_run"), label)


def _includes(compiler: str) -> list[str]:
    # Debian's compiler for RISC-V has no C library of its own.
    return ["--specs=picolibc.specs"] if compiler.startswith("riscv") else []


def deepest(graph: str, root: str) -> int:
    """The deepest stack below a function, of the graph that -fcallgraph-info=su writes. Functions of libraries count as 0."""
    frames = {
        title: int(size) for title, size in re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?\\n(\d+) bytes', graph)
    }
    calls: dict[str, set[str]] = {}
    for source, target in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', graph):
        calls.setdefault(source, set()).add(target)
    known: dict[str, int] = {}

    def depth(title: str) -> int:
        if title not in known:
            known[title] = 0
            known[title] = frames.get(title, 0) + max((depth(t) for t in calls.get(title, ())), default=0)
        return known[title]

    return depth(root)


def run_on_host(
    text: Source, name: str, x: NDArray[np.generic], outputs: int, flags: Sequence[str] = ()
) -> NDArray[np.float32]:
    """Compile a source here, and compute a batch (n, *shape) of uint8 or float32 to (n, outputs).

    Raises:
        OnebitError: there is no compiler, or it or the program fails.
    """
    compiler = host_compiler()
    if compiler is None:
        raise OnebitError("[export] check needs a C compiler here: install gcc or clang, or export without check")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _put(work, text, name)
        kind = "uint8_t" if x.dtype == np.uint8 else "float"
        main = _HOST.replace("@name@", name).replace("@NAME@", name.upper()).replace("@type@", kind)
        (work / "main.c").write_text(main, encoding="utf-8")
        warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
        _run(
            [compiler, *FLAGS, *warnings, *flags, f"{name}.c", "main.c", "-lm", "-o", "run"],
            work,
            f"{compiler} of {name}.c",
        )
        made = _run([str(work / "run")], work, f"the program of {name}.c", x.tobytes())
    return np.frombuffer(made, np.float32).reshape(-1, outputs)


def random_inputs(model: PackedModel, pixels: bool, count: int, seed: int = 0) -> NDArray[np.generic]:
    """Random inputs of a model, pixels or floats."""
    rng = np.random.default_rng(seed)
    shape = (count, *model.program.input_shape)
    return rng.integers(0, 256, shape, dtype=np.uint8) if pixels else rng.standard_normal(shape).astype(np.float32)


def check(model: PackedModel, text: Source, name: str, pixels: bool, count: int) -> Check:
    """Compare a source's answers of random inputs with the engine's, bit for bit."""
    if count < 1:
        raise OnebitError(f"[export] check={count}: give the number of inputs, 1 or more")
    from onebit._engine import Engine

    x = random_inputs(model, pixels, count)
    expected = np.asarray(Engine(model.program.to_json(), model.tensors, "int8", 1).run(x), np.float32).reshape(
        count, -1
    )
    found = run_on_host(text, name, x, expected.shape[1])
    return Check(count, expected.size, differing(found, expected))


def differing(found: NDArray[np.float32], expected: NDArray[np.float32]) -> int:
    """How many numbers are not the same bits; NaN equals NaN."""
    if found.shape != expected.shape:
        return math.prod(expected.shape)
    same = (found.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(found) & np.isnan(expected))
    return int((~same).sum())


def _put(work: Path, text: Source, name: str) -> None:
    (work / f"{name}.h").write_text(text.header, encoding="utf-8")
    (work / f"{name}.c").write_text(text.source, encoding="utf-8")


def _run(command: list[str], folder: Path, what: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(command, cwd=folder, input=given, capture_output=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OnebitError(f"[export] {what}: {error}") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        told = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
        raise OnebitError(f"[export] {what} failed ({done.returncode}): {told}")
    return done.stdout
