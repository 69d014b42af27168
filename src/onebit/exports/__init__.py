"""Export packed files to other formats. Each format is a module of this package with a function `write`."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.paths import expand
from onebit.pretrained import find
from onebit.printable import printable

__all__ = ["FORMATS", "Agreement", "Check", "Comparison", "Export", "Report", "Site", "Written", "export"]

# For the name of each format: its module, which is imported on demand, and a description.
FORMATS: dict[str, tuple[str, str]] = {
    "safetensors": ("onebit.exports.safetensors", "weights as plain numbers, for NumPy, PyTorch and others"),
    "gguf": ("onebit.exports.gguf", "a language model for llama.cpp"),
    "transformers": ("onebit.exports.transformers", "a ternary language model as a folder for transformers"),
    "onnx": ("onebit.exports.onnx", "the computation in ONNX's standard operators, with weights of one bit"),
    "qonnx": ("onebit.exports.signs.qonnx", "a network of signs for hls4ml and FINN"),
    "verilog": ("onebit.exports.signs.verilog", "a network of signs as a module with constant weights"),
    "nir": ("onebit.exports.signs.nir", "a network of signs as one time step of spiking neurons"),
    "web": ("onebit.exports.web", "a folder with a page that runs the model in the browser"),
    "c": ("onebit.exports.c", "a folder with C99 for microcontrollers"),
}


@dataclass(frozen=True)
class Check:
    """The comparison of the exported file, read back and computed, with the packed file.

    Args:
        examples: the number of inputs, with random pixels or tokens; or of matrices.
        values: the number of compared outputs, in both precisions; or of weights.
        different: the number of these that differ.
        what: what is compared.
    """

    examples: int
    values: int
    different: int
    what: Literal["outputs", "weights"] = "outputs"

    @property
    def passed(self) -> bool:
        """Whether all outputs were equal."""
        return self.different == 0

    def __str__(self) -> str:
        found = "all equal" if self.passed else f"{self.different:,} DIFFERENT"
        if self.what == "weights":
            return f"check: {self.values:,} weights of {self.examples} matrices, read from the exported file: {found}"
        many = "s" if self.examples > 1 else ""
        return (
            f"check: {self.values:,} outputs of {self.examples} input{many}, computed from the exported file: {found}"
        )


class Comparison(Protocol):
    """What a check of an exported file found; `str` says it in a line."""

    @property
    def passed(self) -> bool:
        """Whether the exported file computes what the packed one does."""


class Report(Protocol):
    """What a format's `write` returns: a dataclass whose `str` says what was written."""

    @property
    def check(self) -> Comparison | None:
        """The comparison; None if it was not requested."""


@dataclass(frozen=True)
class Agreement:
    """The comparison of floats that another runtime computes with those of the engine.

    Args:
        runtime: its name and version.
        examples: the number of inputs, with random pixels or tokens.
        relative: the largest difference, divided by the largest output.
        allowed: the largest allowed `relative`.
        changed: the number of answers (largest outputs) that differ, of `answers`.
        rounded: the number of answers with larger differences because an input lay between two levels of a quantizer.
    """

    runtime: str
    examples: int
    relative: float
    allowed: float
    changed: int
    answers: int
    rounded: int = 0

    @property
    def passed(self) -> bool:
        """Whether no difference was larger than is allowed."""
        return self.relative <= self.allowed

    def __str__(self) -> str:
        found = f"differ by at most {self.relative:.1e} of the largest" if self.relative else "are all equal"
        many = "s" if self.examples > 1 else ""
        line = f"check: outputs of {self.examples} input{many} in {self.runtime} {found}; {self.changed} of {self.answers} answers differ"
        if self.rounded:
            line += f"; {self.rounded} examples left out, in which a number lies between two levels"
        return line if self.passed else f"{line}. DIFFERENT: allowed is {self.allowed:.0e}"


@dataclass(frozen=True)
class Written:
    """The result of a format's `write`.

    Args:
        tensors, values: the number of tensors, and of the numbers in them.
        bytes: the size of the file.
        check: the comparison; None if it was not requested.
    """

    tensors: int
    values: int
    bytes: int
    check: Check | Agreement | None

    def __str__(self) -> str:
        return f"{self.tensors} tensors of {self.values:,} numbers, {self.bytes:,} bytes"


@dataclass(frozen=True)
class Site:
    """The result of writing a page.

    Args:
        files, bytes: of its folder.
    """

    files: int
    bytes: int
    check: None = None

    def __str__(self) -> str:
        return f"{self.files} files, {self.bytes:,} bytes; open index.html, or put the folder on any static server"


@dataclass(frozen=True)
class Export:
    """The result of `export`. `str` is a few lines.

    Args:
        format: the name of the format.
        file, file_bytes: the packed file and its size.
        out: the new file or folder.
        written: its contents.
    """

    format: str
    file: str
    file_bytes: int
    out: str
    written: Report

    @property
    def passed(self) -> bool:
        """Whether the check found no difference; also true if no check was requested."""
        return self.written.check is None or self.written.check.passed

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        written = self.written
        lines = [
            f"{printable(self.out)}: {written}",
            f"  from {printable(self.file)}, {self.file_bytes:,} bytes",
        ]
        if written.check is not None:
            lines.append(f"  {written.check}")
        return "\n".join(lines)


def export(file: str | Path, to: str, out: str | Path, **options: Any) -> Export:
    """Write a packed file in another format.

    Args:
        file: a `.onebit` file, or the name of one that comes with the package.
        to: the format: ``"safetensors"``; ``"gguf"`` or ``"transformers"`` for language models; ``"onnx"``; ``"qonnx"``, ``"verilog"`` or ``"nir"``
            for networks of signs; ``"web"``; ``"c"``.
        out: the file to write, or the folder for transformers, web and c. It must not exist yet.
        options: the options of the format. For safetensors they are ``dtype`` ("float32", the default, or "int8") and ``check`` (whether to read
            the file back and compute it); see `onebit.exports.safetensors.write`. gguf has ``check``, transformers none. onnx has ``weights``
            ("bits", the default, or "int2") and ``check``; see `onebit.exports.onnx.write`. qonnx has both, verilog and nir have ``check``; see
            `onebit.exports.signs`. For web it is ``engine`` (the folder that ``make wasm`` builds, by default the package's own); see
            `onebit.exports.web.write`. For c see `onebit.exports.c.write`.

    Returns:
        The report.

    Raises:
        FormatError: the packed file is damaged, foreign or of an unknown version.
        OnebitError: the format or an option is unknown, or `out` already exists.
        OSError: the file cannot be written.

    Example:
        >>> onebit.export("digits.onebit", "safetensors", "digits.safetensors", check=True).passed
        True
    """
    if to not in FORMATS:
        raise OnebitError(f"[export] format {to!r} is unknown: use {', '.join(FORMATS)}")
    write = importlib.import_module(FORMATS[to][0]).write
    taken = inspect.signature(write).parameters
    known = [name for name, one in taken.items() if one.kind is one.KEYWORD_ONLY and name != "source"]
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise OnebitError(f"[export] {to} has no option {unknown!r}: use {', '.join(known) or 'none'}")
    path, target = find(file), expand(out)
    if target.is_dir() and to not in ("transformers", "web", "c"):
        raise OnebitError(f"[export] {target} is a folder: give the name of a file in it")
    if target.exists():
        raise OnebitError(f"[export] {target} exists: give another name, or delete it first")
    if "source" in taken:
        options["source"] = path
    written = write(load_model(path), target, **options)
    return Export(to, str(path), path.stat().st_size, str(target), written)
