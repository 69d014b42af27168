"""The program that measures the engine's kernels: how it is compiled, started, and how the machine that it ran on is described."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import cpu_name

ROOT = Path(__file__).resolve().parent.parent
# What runs a program for 64-bit Arm on another processor, with the libraries of Debian's cross compiler.
EMULATOR = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")


@dataclass(frozen=True)
class Program:
    """`engine_benchmarks`, for this machine or for an emulated one: the words that start it."""

    path: Path
    emulator: tuple[str, ...] = ()

    def command(self, *words: str, plugin: tuple[str, ...] = ()) -> list[str]:
        """The whole command; `plugin` goes to the emulator."""
        return [*self.emulator, *plugin, str(self.path), *words]

    def lines(self, *words: str) -> list[dict[str, Any]]:
        """The JSON lines that it prints."""
        done = subprocess.run(self.command(*words), stdout=subprocess.PIPE, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]


def build(folder: Path, jobs: int, arm: bool = False) -> Program:
    """Compile the measuring program; for 64-bit Arm by a cross compiler if `arm`."""
    folder.mkdir(parents=True, exist_ok=True)
    # A virtual environment's own CMake and Ninja are found though the environment is not activated.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DONEBIT_BUILD_BENCHMARKS=ON"]
    if not (folder / "CMakeCache.txt").exists():
        options.append("-DONEBIT_BUILD_PYTHON=OFF")
        if arm:
            options.append(f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'cmake' / 'aarch64-linux-gnu.cmake'}")
        if shutil.which("ninja", path=environment["PATH"]):
            options += ["-G", "Ninja"]
    words = ["--build", str(folder), "--target", "engine_benchmarks", "--parallel", str(jobs)]
    for command in (["cmake", "-S", str(ROOT), "-B", str(folder), *options], ["cmake", *words]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return Program(folder / "engine_benchmarks", EMULATOR if arm else ())


def machine(program: Program) -> dict[str, Any]:
    """What the figures hold for."""
    (found, *_) = program.lines("--list")
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": f"{program.emulator[0]} on {cpu_name()}" if program.emulator else cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "features": found["features"],
        "compiler": found["compiler"],
        "isas": found["isas"],
        "commit": commit.stdout.strip(),
    }


def heading(found: dict[str, Any]) -> str:
    """The machine in a line, as every table has it."""
    return (
        f"{found['cpu']}, {found['cores']} cores, {', '.join(found['features'])}; {found['system']}; {found['compiler']}; "
        f"onebit at {found['commit']}"
    )
