"""The cores for which sizes are measured, each with the compiler's flags and with the memory of a usual part."""

from __future__ import annotations

from dataclasses import dataclass

from onebit.errors import OnebitError

KB = 1024
ARM, RISCV = "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc"


@dataclass(frozen=True)
class Core:
    """A core.

    Args:
        compiler: the name of its cross compiler.
        flags: what tells the compiler of the core.
        part: a usual part with it.
        flash, ram: the bytes of that part.
    """

    compiler: str
    flags: tuple[str, ...]
    part: str
    flash: int
    ram: int


def _arm(cpu: str, fpu: str, part: str, flash: int, ram: int) -> Core:
    floats = (f"-mfpu={fpu}", "-mfloat-abi=hard") if fpu else ("-mfloat-abi=soft",)
    return Core(ARM, (f"-mcpu={cpu}", "-mthumb", *floats), part, flash, ram)


CORES: dict[str, Core] = {
    "cortex-m0": _arm("cortex-m0", "", "nRF51822", 256 * KB, 16 * KB),
    "cortex-m3": _arm("cortex-m3", "", "STM32F103RB", 128 * KB, 20 * KB),
    "cortex-m4": _arm("cortex-m4", "fpv4-sp-d16", "nRF52832", 512 * KB, 64 * KB),
    "cortex-m7": _arm("cortex-m7", "fpv5-d16", "STM32F746", 1024 * KB, 320 * KB),
    "cortex-m33": _arm("cortex-m33", "fpv5-sp-d16", "nRF5340", 1024 * KB, 512 * KB),
    "cortex-m55": _arm("cortex-m55", "auto", "Corstone-300", 512 * KB, 512 * KB),
    "rv32": Core(RISCV, ("-march=rv32imac", "-mabi=ilp32"), "ESP32-C3", 4096 * KB, 400 * KB),
}


@dataclass(frozen=True)
class Limits:
    """The memory that a model may take, None for any, and whose it is."""

    flash: int | None
    ram: int | None
    of: str


def limits(core: str | None, flash: int | None, ram: int | None) -> Limits:
    """The memory that a model may take.

    Args:
        core: a name in `CORES`; None for no core in particular.
        flash, ram: bytes; None for those of the core's part.

    Raises:
        OnebitError: the core is unknown, or a size is not positive.
    """
    if core is not None and core not in CORES:
        raise OnebitError(f"[export] core={core!r} is unknown: use {', '.join(CORES)}")
    for what, size in (("flash", flash), ("ram", ram)):
        if size is not None and size < 1:
            raise OnebitError(f"[export] {what}={size}: give the bytes of the part, 1 or more")
    if core is None:
        return Limits(flash, ram, "the part")
    of = CORES[core]
    own = flash is not None and ram is not None
    return Limits(
        of.flash if flash is None else flash, of.ram if ram is None else ram, core if own else f"{core} ({of.part})"
    )
