"""The folders that tools expect: a Makefile, an Arduino library, a Zephyr module. Each has the same header and source."""

from __future__ import annotations

from importlib import resources

from onebit.exports.c.compiled import Measured
from onebit.exports.c.source import Source

# For each layout: its files, and the template of each. The header and the source have none.
LAYOUTS: dict[str, dict[str, str]] = {
    "plain": {"@name@.h": "", "@name@.c": "", "main.c": "main.c", "Makefile": "Makefile", "README.md": "README.md"},
    "arduino": {
        "src/@name@.h": "",
        "src/@name@.c": "",
        "library.properties": "library.properties",
        "examples/@name@/@name@.ino": "sketch.ino",
        "README.md": "README.md",
    },
    "zephyr": {
        "include/@name@.h": "",
        "src/@name@.c": "",
        "zephyr/module.yml": "module.yml",
        "CMakeLists.txt": "module.cmake",
        "Kconfig": "Kconfig",
        "samples/@name@/CMakeLists.txt": "sample.cmake",
        "samples/@name@/prj.conf": "prj.conf",
        "samples/@name@/src/main.c": "main.c",
        "README.md": "README.md",
    },
}


def files(text: Source, name: str, layout: str, measured: Measured) -> dict[str, str]:
    """The texts of a layout's files, by their paths.

    Args:
        text: the header and the source.
        name: the model's name.
        layout: a name in `LAYOUTS`.
        measured: sizes for the README.
    """
    flash = "not measured" if measured.flash_bytes is None else f"{measured.flash_bytes:,} bytes ({measured.compiler})"
    stack = "not measured" if measured.stack_bytes is None else f"{measured.stack_bytes:,} bytes ({measured.compiler})"
    values = {
        "name": name,
        "NAME": name.upper(),
        "type": "uint8_t" if "const uint8_t *pixels" in text.header else "float",
        "flash": flash,
        "stack": stack,
        "constants": f"{text.constant_bytes:,}",
        "ram": f"{text.ram_bytes:,}",
        "use": _USE[layout].replace("@name@", name).replace("@NAME@", name.upper()),
    }
    made = {}
    for path, template in LAYOUTS[layout].items():
        body = text.header if path.endswith(".h") else text.source
        if template:
            body = resources.files("onebit.exports.c").joinpath(f"templates/{template}").read_text(encoding="utf-8")
        for key, value in values.items():
            path = path.replace(f"@{key}@", value)
            body = body.replace(f"@{key}@", value) if template else body
        made[path] = body
    return made


_USE = {
    "plain": "Copy the header and the source into your project, or build the sample with `make` (for this machine) or\n"
    "`make CC=arm-none-eabi-gcc CORE='-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard' @name@.o`.",
    "arduino": "Copy this folder into the folder `libraries` of your sketchbook, and open the example `@name@`.",
    "zephyr": "Name this folder in `ZEPHYR_EXTRA_MODULES`, or in a west manifest, set `CONFIG_@NAME@=y`, or build the sample:\n"
    "`west build -b qemu_cortex_m3 samples/@name@`.",
}
