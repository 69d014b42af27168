"""What a C source is put together from: kernels that were asked for, constants, functions."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.exports.c import arrays

_NEEDS = re.compile(r"\A/\* needs: ([a-z_0-9 ]+) \*/\n")


class Parts:
    """The kernels and constants of a source that is being written."""

    def __init__(self) -> None:
        self._needed: dict[str, str] = {}
        self._constants: dict[str, str] = {}
        self._known: dict[tuple[str, bytes], str] = {}
        self.constant_bytes = 0

    def need(self, *names: str) -> None:
        """Ask for kernels; those that they call come before them."""
        for name in names:
            if name in self._needed:
                continue
            text = resources.files("onebit.exports.c").joinpath(f"kernels/{name}.c").read_text(encoding="utf-8")
            found = _NEEDS.match(text)
            if found:
                self.need(*found[1].split())
                text = text[found.end() :]
            self._needed[name] = text

    @property
    def kernels(self) -> str:
        """The text of all kernels, in an order in which each is defined before its use."""
        return "\n".join(self._needed.values())

    @property
    def constants(self) -> str:
        """The definitions of all constants."""
        return "\n".join(self._constants.values())

    def floats(self, role: str, values: NDArray[Any]) -> str:
        """The name of a constant array of floats. The same numbers are stored once."""
        data = np.ascontiguousarray(values, dtype=np.float32)
        return self._keep(role, data.tobytes(), data.size * 4, lambda name: arrays.floats(name, data))

    def words(self, role: str, bits: NDArray[Any]) -> str:
        """The name of a constant array of words of bits."""
        return self._keep(role, bits.tobytes(), bits.size // 8, lambda name: arrays.words(name, bits))

    def other(self, role: str, kind: str, items: list[str], nbytes: int) -> str:
        """The name of any other constant array."""
        return self._keep(role, repr((kind, items)).encode(), nbytes, lambda name: arrays.constant(kind, name, items))

    def window(self, numbers: list[int]) -> str:
        """The name of a constant window."""
        self.need("window")
        text = ", ".join(map(str, numbers))
        return self._keep(
            "window", text.encode(), 52, lambda name: f"static const struct window {name} = {{{text}}};\n"
        )

    def _keep(self, role: str, data: bytes, nbytes: int, define: Any) -> str:
        key = (role, data)
        if key not in self._known:
            name = f"{role}_{sum(1 for known in self._known if known[0] == role)}"
            self._known[key] = name
            self._constants[name] = define(name)
            self.constant_bytes += nbytes
        return self._known[key]
