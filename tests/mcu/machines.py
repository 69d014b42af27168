"""Emulated cores: what compiles for them, what runs them, and where their memory lies."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebit.exports.c.compiled import FLAGS
from onebit.exports.c.cores import CORES
from onebit.exports.c.source import Source

FIRMWARE = Path(__file__).parent / "firmware"
ROUNDS = 2_000_000  # instructions of the loop whose time is measured first


@dataclass(frozen=True)
class Machine:
    """A machine of qemu: its program and name, and its flash and RAM as (address, size)."""

    qemu: str
    name: str
    flash: tuple[str, str]
    ram: tuple[str, str]


MACHINES = {
    "cortex-m0": Machine("qemu-system-arm", "microbit", ("0", "256K"), ("0x20000000", "16K")),
    "cortex-m3": Machine("qemu-system-arm", "mps2-an385", ("0", "4M"), ("0x20000000", "4M")),
    "cortex-m4": Machine("qemu-system-arm", "mps2-an386", ("0", "4M"), ("0x20000000", "4M")),
    "cortex-m7": Machine("qemu-system-arm", "mps2-an500", ("0", "4M"), ("0x20000000", "4M")),
    "cortex-m33": Machine("qemu-system-arm", "mps2-an505", ("0x10000000", "4M"), ("0x38000000", "4M")),
    "cortex-m55": Machine("qemu-system-arm", "mps3-an547", ("0", "512K"), ("0x01000000", "2M")),
    "rv32": Machine("qemu-system-riscv32", "virt", ("0x80000000", "4M"), ("0x80400000", "4M")),
}


@dataclass(frozen=True)
class Run:
    """What a core gave: outputs, instructions of the first run, and the bytes of the image's flash and RAM without the stack."""

    outputs: Any
    instructions: int
    flash: int
    ram: int


def lacking(core: str) -> str:
    """Which program is missing; empty if there is none."""
    return next((name for name in (CORES[core].compiler, MACHINES[core].qemu) if shutil.which(name) is None), "")


def version(core: str) -> str:
    """The compiler's own version and the emulator's: instruction counts belong to both."""
    lines = [subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
             for name in (CORES[core].compiler, MACHINES[core].qemu)]  # fmt: skip
    return "; ".join(lines)


def run(core: str, text: Source, x: Any, folder: Path, counts: bool, optimize: str = "-O2") -> Run:
    """Compile a source named net for a core, and run it on a batch."""
    of, machine = CORES[core], MACHINES[core]
    (folder / "net.h").write_text(text.header)
    (folder / "net.c").write_text(text.source)
    script = (FIRMWARE / "core.ld").read_text()
    for name, value in zip(("FLASH_AT", "FLASH_SIZE", "RAM_AT", "RAM_SIZE"), machine.flash + machine.ram, strict=True):
        script = script.replace(name, value)
    (folder / "core.ld").write_text(script)
    kind = "uint8_t" if x.dtype == np.uint8 else "float"
    arm = of.compiler.startswith("arm")
    specs = ["--specs=nano.specs"] if arm else ["--specs=picolibc.specs", "-mcmodel=medany"]
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    flags = [*of.flags, *specs, *FLAGS, optimize]
    _done([of.compiler, *flags, *warnings, "-c", "net.c"], folder)
    main = ["-std=gnu99", f"-DNET_INPUT_TYPE={kind}", f"-I{folder}", "-c", str(FIRMWARE / "main.c")]
    if not arm:
        main.append("-march=rv32imac_zicsr")
    _done([of.compiler, *flags, *main], folder)
    _done(
        [
            of.compiler,
            *flags,
            "-nostartfiles",
            "-Wl,--gc-sections",
            "-T",
            "core.ld",
            "main.o",
            "net.o",
            "-lm",
            "-o",
            "net.elf",
        ],
        folder,
    )
    sizes = _done([of.compiler.replace("gcc", "size"), "net.elf"], folder).splitlines()[1].split()
    (folder / "in.bin").write_bytes(x.tobytes())
    command = [machine.qemu, "-M", machine.name, "-display", "none", "-serial", "none", "-monitor", "none"]
    command += ["-semihosting-config", "enable=on,target=native", *(["-icount", "shift=0"] if counts else [])]
    command += ["-kernel", "net.elf"] if arm else ["-bios", "none", "-kernel", "net.elf"]
    _done(command, folder, 900)
    made = (folder / "out.bin").read_bytes()
    loop, ticks = np.frombuffer(made[:8], np.uint32)
    return Run(np.frombuffer(made[8:], np.float32).reshape(len(x), -1), round(int(ticks) * ROUNDS / max(int(loop), 1)),
               int(sizes[0]) + int(sizes[1]), int(sizes[1]) + int(sizes[2]))  # fmt: skip


def _done(command: list[str], folder: Path, seconds: int = 120) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, (command, done.returncode, done.stderr[-2000:])
    return done.stdout
