"""Reads and writes `.onebit` files: safetensors files whose metadata holds a program. docs/program.md is the specification."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import mmap
import os
import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from onebit.errors import FormatError
from onebit.program import Program, Shape

FORMAT_VERSION = "1"
# Larger headers than this are refused by safetensors too; we refuse first, with our words.
MAX_HEADER_BYTES = 100_000_000
# What a program's tensors may be: rows of bits, and floats.
_DTYPES: dict[str, type[np.generic]] = {"U8": np.uint8, "F32": np.float32}


@dataclass(frozen=True)
class PackedModel:
    """A program, its tensors, and what the model is for; checked as a whole when it is made.

    Args:
        program: the steps.
        tensors: name to array, uint8 rows of bits or float32.
        task: plain JSON values with a `kind`; see `onebit.images.ImageTask`.

    Raises:
        FormatError: the program and its tensors do not fit together.
    """

    program: Program
    tensors: dict[str, NDArray[Any]]
    task: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shapes", self.program.shapes(self.tensors))

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every value of the program, without the batch axis."""
        shapes: dict[str, Shape] = self._shapes  # type: ignore[attr-defined]
        return shapes


def save_model(model: PackedModel, path: str | Path) -> int:
    """Write a packed model, whole or not at all: a file that stands there stays as it is until the new one is complete.

    The bytes depend on the model only: one model gives one file on every machine.

    Args:
        model: what to write.
        path: the file.

    Returns:
        The file's size in bytes.

    Raises:
        FormatError: a tensor is of a type that a file does not hold, or the program and the task are longer than its header may be.
        OSError: the file cannot be written.
    """
    header, names = _header(model)
    if len(header) > MAX_HEADER_BYTES:
        raise FormatError(
            f"[{path}] a header of {len(header)} bytes: at most {MAX_HEADER_BYTES} fit; use fewer steps, or a smaller vocabulary"
        )
    tensors = [np.ascontiguousarray(model.tensors[name]) for name in names]
    content: list[bytes | memoryview] = [struct.pack("<Q", len(header)), header]
    content += [tensor.reshape(-1).view(np.uint8).data for tensor in tensors]
    write_atomically(path, content)
    return sum(map(len, content))


def _header(model: PackedModel) -> tuple[bytes, list[str]]:
    """The header of a safetensors file, and the names of its tensors in the order in which they follow it.

    It is written here because safetensors' own writer puts the metadata in another order each time.
    """
    # Floats come first, so that they are aligned whatever lengths the rows of bits have.
    names = sorted(model.tensors, key=lambda name: (model.tensors[name].dtype == np.uint8, name))
    metadata = {"onebit_format": FORMAT_VERSION, "program": model.program.to_json(), "task": json.dumps(model.task)}
    entries: dict[str, Any] = {"__metadata__": metadata}
    kinds = {np.dtype(kind): name for name, kind in _DTYPES.items()}
    end = 0
    for name in names:
        tensor = model.tensors[name]
        if tensor.dtype not in kinds:
            raise FormatError(f"[save] tensor {name!r} is {tensor.dtype}: needs {' or '.join(map(str, kinds))}")
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8), names


def load_model(path: str | Path) -> PackedModel:
    """Read a packed model and check all of it.

    Raises:
        FormatError: the file is missing, empty, truncated, damaged, not a `.onebit` file, or of an unknown version.
    """
    path = Path(path)
    _check_frame(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "onebit_format" not in metadata:
                raise FormatError(f"[{path}] a safetensors file, but not a packed model: make one with 'onebit pack'")
            if metadata["onebit_format"] != FORMAT_VERSION:
                found = metadata["onebit_format"]
                raise FormatError(
                    f"[{path}] format version {found[:20]!r}: this onebit reads {FORMAT_VERSION!r}; use a newer one"
                )
        # safetensors has checked the header; the tensors are views of the mapped file, for its own reader would copy them.
        tensors = _map_tensors(path)
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"[{path}] damaged: {error}; copy or pack it again") from None
    try:
        if "program" not in metadata:
            raise FormatError("[program] missing from the metadata; the file is damaged")
        try:
            task = json.loads(metadata.get("task", "null"))
        except (ValueError, RecursionError) as error:
            raise FormatError(f"[task] not JSON: {error}; the file is damaged") from None
        if not isinstance(task, dict) or not isinstance(task.get("kind"), str):
            raise FormatError("[task] missing from the metadata, or without a kind; the file is damaged")
        return PackedModel(Program.from_json(metadata["program"]), tensors, task)
    except FormatError as error:
        raise FormatError(f"[{path}] {error}") from None


def _map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a file whose header is known to be sound, as read-only views of the mapped file."""
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        entries = json.loads(file.read(size))
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise FormatError(
                f"[{path}] tensor {name!r} is {entry['dtype']}: needs {' or '.join(_DTYPES)}; the file is damaged"
            )
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        tensor = np.frombuffer(content, dtype, math.prod(shape), 8 + size + entry["data_offsets"][0]).reshape(shape)
        # Another writer may have placed floats where a processor reads them slowly or not at all.
        tensors[name] = tensor if tensor.flags.aligned else tensor.copy()
    return tensors


def _check_frame(path: Path) -> None:
    """Refuse what cannot be a safetensors file, in words that a user understands."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(9)
    except FileNotFoundError:
        raise FormatError(f"[{path}] no such file") from None
    except IsADirectoryError:
        raise FormatError(
            f"[{path}] is a folder: give a .onebit file; 'onebit pack' makes one from a training run"
        ) from None
    except OSError as error:
        raise FormatError(f"[{path}] cannot be read: {error.strerror}") from None
    if size == 0:
        raise FormatError(f"[{path}] is empty: copy or pack it again")
    if len(start) < 9 or start[8:] != b"{":
        raise FormatError(f"[{path}] is not a .onebit file: make one with 'onebit pack'")
    header = struct.unpack("<Q", start[:8])[0]
    if header > MAX_HEADER_BYTES:
        raise FormatError(f"[{path}] is not a .onebit file: its header claims {header} bytes")
    if 8 + header > size:
        raise FormatError(
            f"[{path}] is truncated: its header needs {8 + header} bytes, the file has {size}; copy it again"
        )


def write_atomically(path: str | Path, content: bytes | memoryview | Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all: beside the target, flushed to the disk, then renamed over it.

    Args:
        path: the file. A device or a pipe that stands there is written to and stays what it is.
        content: bytes, or parts of them that follow each other.

    Raises:
        OSError: it cannot be written (a folder, no such folder, no permission, a full disk); the old file is as it was.
    """
    path = Path(path)
    parts = [content] if isinstance(content, (bytes, memoryview)) else content
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a folder: give the name of a file")
        if _leads_elsewhere(path):
            with path.open("wb") as file:
                file.writelines(parts)
        else:
            _replace(path, parts)
    except OSError as error:
        # Under the target's name: nobody knows the temporary file's.
        raise OSError(error.errno, error.strerror, str(path)) from None


def _leads_elsewhere(path: Path) -> bool:
    """Whether a path is a device or a pipe, or one of the system's links to them, such as /dev/stdout, which must not be replaced."""
    return (path.exists() and not path.is_file()) or (path.is_symlink() and path.is_relative_to("/dev"))


def _replace(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    # The file gets the mode that open() would give it. The name is not longer than the target's may be.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
