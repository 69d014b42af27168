"""The verb `export`: a packed file in another format. Each format is a module of this package that has a function `write`."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.paths import expand
from onebit.pretrained import find
from onebit.printable import printable

__all__ = ["FORMATS", "Check", "Export", "Written", "export"]

# The name of each format: its module, which is imported where it is asked for, and what it is.
FORMATS: dict[str, tuple[str, str]] = {
    "safetensors": ("onebit.exports.safetensors", "weights as plain numbers, for NumPy, PyTorch and others"),
}


@dataclass(frozen=True)
class Check:
    """What came out where the exported file was read back and computed.

    Args:
        examples: inputs that were computed, with random pixels or tokens.
        values: outputs that were compared, of both precisions.
        different: those that were not the same number.
    """

    examples: int
    values: int
    different: int

    @property
    def passed(self) -> bool:
        """Whether all outputs were equal."""
        return self.different == 0

    def __str__(self) -> str:
        found = "all equal" if self.passed else f"{self.different:,} DIFFERENT"
        many = "s" if self.examples > 1 else ""
        return (
            f"check: {self.values:,} outputs of {self.examples} input{many}, computed from the exported file: {found}"
        )


@dataclass(frozen=True)
class Written:
    """What a format's `write` gives.

    Args:
        tensors, values: how many there are, and how many numbers they hold.
        bytes: of the file.
        check: None where none was asked for.
    """

    tensors: int
    values: int
    bytes: int
    check: Check | None


@dataclass(frozen=True)
class Export:
    """What `export` did; `str` is some lines.

    Args:
        format: its name.
        file, file_bytes: the packed file and its size.
        out: the file that was written.
        written: what is in it.
    """

    format: str
    file: str
    file_bytes: int
    out: str
    written: Written

    @property
    def passed(self) -> bool:
        """Whether the check found no difference; true where none was asked for."""
        return self.written.check is None or self.written.check.passed

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        written = self.written
        lines = [
            f"{printable(self.out)}: {written.tensors} tensors of {written.values:,} numbers, {written.bytes:,} bytes",
            f"  from {printable(self.file)}, {self.file_bytes:,} bytes",
        ]
        if written.check is not None:
            lines.append(f"  {written.check}")
        return "\n".join(lines)


def export(file: str | Path, to: str, out: str | Path, **options: Any) -> Export:
    """Write a packed file in another format.

    Args:
        file: a `.onebit` file, or the name of one that comes with the package.
        to: the format: ``"safetensors"``.
        out: the file to write; nothing may be there yet.
        options: of the format. For safetensors: ``dtype`` ("float32", the default, or "int8") and ``check`` (whether the file is read back and
            computed); see `onebit.exports.safetensors.write`.

    Returns:
        The report.

    Raises:
        FormatError: the packed file is damaged, foreign or of an unknown version.
        OnebitError: the format or an option is unknown, or `out` is there already.
        OSError: the file cannot be written.

    Example:
        >>> onebit.export("digits.onebit", "safetensors", "digits.safetensors", check=True).passed
        True
    """
    if to not in FORMATS:
        raise OnebitError(f"[export] format {to!r} is unknown: use {', '.join(FORMATS)}")
    write = importlib.import_module(FORMATS[to][0]).write
    known = [name for name, taken in inspect.signature(write).parameters.items() if taken.kind is taken.KEYWORD_ONLY]
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise OnebitError(f"[export] {to} has no option {unknown!r}: use {', '.join(known)}")
    path, target = find(file), expand(out)
    if target.is_dir():
        raise OnebitError(f"[export] {target} is a folder: give the name of a file in it")
    if target.exists():
        raise OnebitError(f"[export] {target} exists: give another name, or delete it first")
    written = write(load_model(path), target, **options)
    return Export(to, str(path), path.stat().st_size, str(target), written)
