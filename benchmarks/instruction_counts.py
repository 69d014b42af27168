"""How many instructions the engine's kernels and layers execute, counted by one of three methods.

Counts are differences between three calls and one, so that starting and setting up cancel.

- callgrind, where it knows the instruction set (AVX2, but not AVX-512);
- single steps of the process (`ptrace`): every instruction that the processor knows, some hundred thousand a second;
- for 64-bit Arm on another processor, a plugin of QEMU (engine/benchmarks/qemu_counter.c).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kernel_program import ROOT, Program, heading

# Counts a process that does a piece of work so many times; None where the method does not work.
Count = Callable[[Program, Sequence[str]], int | None]


def by_callgrind(program: Program, words: Sequence[str]) -> int | None:
    """Instructions of a whole process as callgrind counts them; None where it does not know the instructions."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *program.command(*words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    return int(found[1]) if done.returncode == 0 and found else None


def by_single_steps(program: Program, words: Sequence[str]) -> int | None:
    """The same of the work alone, counted by single steps."""
    count = int(program.lines(*words, "--single-steps")[0]["instructions"])
    return None if count < 0 else count


def by_plugin(plugin: Path) -> Count:
    """Instructions of a whole emulated process, which a plugin of the emulator counts."""

    def count(program: Program, words: Sequence[str]) -> int | None:
        command = program.command(*words, plugin=("-plugin", str(plugin), "-d", "plugin"))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"instructions: (\d+)", done.stderr)
        if done.returncode or not found:
            sys.exit(f"{' '.join(command)} counted nothing:\n{done.stderr[-3000:]}")
        return int(found[1])

    return count


def build_plugin(folder: Path, emulator: str) -> Path:
    """Compile the plugin for the version of the emulator that is installed."""
    version = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)", version)
    interface = 2 if found and int(found[1]) >= 9 else 1
    plugin = folder.resolve() / "libqemu_counter.so"
    source = ROOT / "engine" / "benchmarks" / "qemu_counter.c"
    options = ["-O2", "-shared", "-fPIC", f"-DONEBIT_QEMU_PLUGIN_API={interface}", "-o", str(plugin)]
    subprocess.run(["cc", *options, str(source)], check=True)
    return plugin


def methods_for(program: Program, folder: Path) -> dict[str, Count]:
    """The methods that may work here, the best first."""
    if program.emulator:
        return {"QEMU": by_plugin(build_plugin(folder, program.emulator[0]))}
    usual: dict[str, Count] = {"single steps": by_single_steps}
    return {"callgrind": by_callgrind} | usual if shutil.which("valgrind") else usual


def count_instructions(program: Program, isas: list[str], wanted: str, folder: Path) -> list[dict[str, Any]]:
    """Instructions per multiply-accumulate of each piece of work whose name contains `wanted`."""
    names = [row["kernel"] for row in program.lines("--list") if row["kind"] == "kernel" and wanted in row["kernel"]]
    methods = methods_for(program, folder)
    rows = []
    for isa in isas:
        for name in names:
            words = ["--isa", isa, "--work", name, "--times"]
            for method, count in methods.items():
                one = count(program, [*words, "1"])
                three = None if one is None else count(program, [*words, "3"])
                if one is None or three is None:
                    continue
                (work,) = program.lines(*words, "0")
                instructions = (three - one) // 2
                rows.append(
                    {
                        "isa": isa,
                        "kernel": name,
                        "size": work["size"],
                        "method": method,
                        "instructions": instructions,
                        "products": work["products"],
                        "per_product": instructions / work["products"],
                    }
                )
                print(f"{isa:<12} {name:<24} {rows[-1]['per_product']:.5f} ({method})", flush=True)
                break
            else:
                print(f"{isa:<12} {name:<24} not counted: no method works here", flush=True)
    return rows


def instruction_table(results: dict[str, Any]) -> str:
    """Instructions per multiply-accumulate as Markdown."""
    rows = results["instructions"]
    isas = list(dict.fromkeys(row["isa"] for row in rows))
    lines = [heading(results["machine"]), "", f"    {results['command']}", ""]
    lines += [f"| kernel | work | {' | '.join(isas)} |", f"| --- | --- |{' ---: |' * len(isas)}"]
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        cells = {row["isa"]: f"{row['per_product']:.5f}" for row in rows if row["kernel"] == kernel}
        size = next(row["size"] for row in rows if row["kernel"] == kernel)
        lines.append(f"| {kernel} | {size} | {' | '.join(cells.get(isa, '') for isa in isas)} |")
    methods = {isa: sorted({row["method"] for row in rows if row["isa"] == isa}) for isa in isas}
    lines += [
        "",
        "Counted by: " + "; ".join(f"{isa} {' and '.join(used)}" for isa, used in methods.items()) + ".",
    ]
    return "\n".join(lines) + "\n"
