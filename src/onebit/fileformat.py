"""Reads and writes `.onebit` files: safetensors files whose metadata holds a program. docs/program.md is the specification."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from onebit.errors import FormatError
from onebit.paths import expand
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
        training: plain JSON values that tell the data of the training; see `onebit.data.record.DataRecord`. None where nothing is known.

    Raises:
        FormatError: the program and its tensors do not fit together.
    """

    program: Program
    tensors: dict[str, NDArray[Any]]
    task: dict[str, Any]
    training: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shapes", self.program.shapes(self.tensors))

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every value of the program, without the batch axis."""
        shapes: dict[str, Shape] = self._shapes  # type: ignore[attr-defined]
        return shapes


def save_model(model: PackedModel, path: str | Path) -> int:
    """Write a packed model, whole or not at all: a file that stands there stays as it is until the new one is complete.

    Args:
        model: what to write.
        path: the file.

    Returns:
        The file's size in bytes.

    Raises:
        OSError: the file cannot be written.
    """
    metadata = {"onebit_format": FORMAT_VERSION, "program": model.program.to_json(), "task": json.dumps(model.task)}
    metadata |= {} if model.training is None else {"training": json.dumps(model.training)}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in model.tensors.items()}
    content = save(tensors, metadata)
    write_atomically(path, content)
    return len(content)


def load_model(path: str | Path) -> PackedModel:
    """Read a packed model and check all of it.

    Raises:
        FormatError: the file is missing, empty, truncated, damaged, not a `.onebit` file, or of an unknown version.
    """
    path = expand(path)
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
        return PackedModel(Program.from_json(metadata["program"]), tensors, task, _read_training(metadata))
    except FormatError as error:
        raise FormatError(f"[{path}] {error}") from None


def _read_training(metadata: dict[str, str]) -> dict[str, Any] | None:
    """The record of the training's data, which no computation needs: files of other writers and older ones have none."""
    try:
        values = json.loads(metadata.get("training", "null"))
    except (ValueError, RecursionError):
        values = "damaged"
    if values is not None and not isinstance(values, dict):
        raise FormatError("[training] is not an object of JSON; the file is damaged")
    return values


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


def write_atomically(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all: beside the target, flushed to the disk, then renamed over it.

    Raises:
        OSError: it cannot be written (no such folder, no permission, a full disk); the old file is as it was.
    """
    path = expand(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            # mkstemp makes the file private; give it the mode that open() would have given.
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
