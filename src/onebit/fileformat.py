"""Reads and writes `.onebit` files: safetensors files whose metadata holds a program. docs/program.md is the specification."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onebit.errors import FormatError
from onebit.nested_models import NestedModels, lay_out, used_by
from onebit.paths import expand
from onebit.program import Program, Shape
from onebit.strict_json import excerpt, parse
from onebit.task import check_fit, check_task
from onebit.tasks.kinds import KINDS

FORMAT_VERSION = "1"
# safetensors refuses larger headers too. The check here comes first, for its message.
MAX_HEADER_BYTES = 100_000_000
_SIZE_BYTES = 8  # a file begins with the size of its header, in this many bytes
_MAX_PLACE = (1 << 53) - 1  # every JSON reader knows all integers up to this one
_MAX_TENSOR_AXES = 4  # the most axes that a tensor of a program has
# What a program's tensors may be, in their order in a file: floats, scales, bytes, and rows of bits.
_DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8}
# What safetensors calls the types of tensors that are written.
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()} | {np.dtype(np.int16): "I16"}


@dataclass(frozen=True)
class PackedModel:
    """A program, its tensors and its task. The constructor checks that they fit together.

    Args:
        program: the steps.
        tensors: arrays by name: uint8 rows of bits, float32, or float16 and int8 where an op says so.
        task: plain JSON values with a `kind`; see `onebit.ImageTask`.
        training: plain JSON values that describe the training data; see `onebit.data.record.DataRecord`. None if they are not known.
        planes: the number of bits of a weight that the model uses, where one file holds several such models.
        smaller: the models of fewer planes, rising. Rows of bits of this model go on from theirs.

    Raises:
        FormatError: the program, the tensors or the task are not valid, or do not fit together.
    """

    program: Program
    tensors: dict[str, NDArray[Any]]
    task: dict[str, Any]
    training: dict[str, Any] | None = None
    planes: int = 1
    smaller: tuple[PackedModel, ...] = ()

    def __post_init__(self) -> None:
        check_task(self.task)
        shapes = self.program.shapes(self.tensors)
        program = self.program
        # Of several inputs or outputs the sum of their elements, which fits no task of one.
        taken = [source.shape for source in program.inputs]
        given = [shapes[name] for name in program.outputs]
        whole = [of[0] if len(of) == 1 else (sum(map(math.prod, of)),) for of in (taken, given)]
        integers = program.integers and not program.more_inputs and self.task["kind"] in KINDS
        check_fit(self.task, whole[0], whole[1], program.tokens or integers)
        object.__setattr__(self, "_shapes", shapes)
        for model in self.smaller:
            same = model.program.input_shape == self.program.input_shape and model.program.tokens == self.program.tokens
            if not same or model.shapes[model.program.output] != shapes[self.program.output]:
                raise FormatError(f"[planes={model.planes}] its input and output are not those of the whole model")

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every value of the program, without the batch axis."""
        shapes: dict[str, Shape] = self._shapes  # type: ignore[attr-defined]
        return shapes


def save_model(model: PackedModel, path: str | Path) -> int:
    """Write a packed model atomically: an existing file stays as it is until the new one is complete.

    The bytes depend only on the model: every machine writes the same file for it.

    Args:
        model: what to write.
        path: the file.

    Returns:
        The file's size in bytes.

    Raises:
        FormatError: a tensor has a type that a file cannot hold, or the program and the task are too long for the header.
        OSError: the file cannot be written.
    """
    tensors = {name: model.tensors[name] for name in tensor_order(model.tensors)}
    program, more = model.program, {}
    if model.smaller:
        layout = lay_out([(m.planes, m.program, m.tensors) for m in (*model.smaller, model)], tensor_order)
        tensors, program, more = layout.tensors, layout.programs[-1], layout.metadata()
    metadata = {"onebit_format": FORMAT_VERSION, "program": program.to_json(), "task": json.dumps(model.task)}
    if model.training is not None:
        metadata["training"] = json.dumps(model.training)
    metadata |= more
    header = safetensors_header(tensors, metadata)
    if len(header) > MAX_HEADER_BYTES:
        raise FormatError(
            f"[{path}] the header takes {len(header)} bytes: at most {MAX_HEADER_BYTES} are allowed; use fewer steps, or a smaller vocabulary"
        )
    return write_safetensors(path, header, tensors)


def tensor_order(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """The names of tensors in the order of a file. Raises FormatError if one has a type that a file cannot hold.

    Wide numbers come first, so that they are aligned whatever the length of the rows of bits.
    """
    order = [np.dtype(dtype) for dtype in _DTYPES.values()]
    for name, tensor in tensors.items():
        if tensor.dtype not in order:
            raise FormatError(f"[save] tensor {name!r} is {tensor.dtype}: needs {' or '.join(map(str, order))}")
    return sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))


def safetensors_header(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The header of a safetensors file that holds such tensors in their order.

    safetensors' own writer is not used, because the order of its metadata changes from call to call.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def write_safetensors(path: str | Path, header: bytes, tensors: Mapping[str, NDArray[Any]]) -> int:
    """Write a safetensors file, whole or not at all; returns its size in bytes."""
    content: list[bytes | memoryview] = [struct.pack("<Q", len(header)), header]
    content += [np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data for tensor in tensors.values()]
    write_atomically(path, content)
    return sum(map(len, content))


def load_model(path: str | Path, planes: int | None = None, prefix: bool = False) -> PackedModel:
    """Read a packed model and check all of it.

    Args:
        path: the file.
        planes: the number of bits of a weight that are used, where the file holds such a model; None for all.
        prefix: the file may be only the beginning of one: the largest model that is whole in it counts.

    Raises:
        FormatError: the file is missing, empty, truncated, damaged, not a `.onebit` file, or of an unknown version.
    """
    path = expand(path)
    size = _check_frame(path)
    try:
        with path.open("rb") as file:
            file.seek(_SIZE_BYTES)
            entries = _read_header(file.read(size))
            metadata = _read_metadata(entries)
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        nested = NestedModels.read(metadata, _data_size(entries))
        start = _SIZE_BYTES + size
        end = _prefix_end(nested, len(content) - start, _data_size(entries)) if prefix else None
        tensors = _read_tensors(entries, content, start, end, nested)
        task = parse(metadata.get("task", "null"), "task")
        # The record of the training data. No computation needs it, and older files do not have it.
        training = parse(metadata.get("training", "null"), "training")
        if training is not None and not isinstance(training, dict):
            raise FormatError("[training] is not an object; the file is damaged")
        if nested is None:
            model = PackedModel(Program.from_json(metadata["program"]), tensors, task, training)
        else:
            model = _nested_model(nested, metadata, entries, tensors, task, training, end)
        return _with_planes(model, planes, nested is not None)
    except FormatError as error:
        raise FormatError(f"[{path}] {error}") from None
    except OSError as error:
        raise FormatError(f"[{path}] cannot be read: {error.strerror}") from None


def _read_header(content: bytes) -> dict[str, Any]:
    """The header of a file. It is stricter than safetensors: JSON on which readers disagree is refused."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _damaged("the header is not UTF-8") from None
    entries = parse(text, "header")
    if not isinstance(entries, dict):
        raise _damaged("the header is not an object")
    return entries


def _read_metadata(entries: dict[str, Any]) -> dict[str, str]:
    metadata = entries.get("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _damaged("__metadata__ is not an object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise _damaged(f"the metadata's {excerpt(key)} is not a text")
    if "onebit_format" not in metadata:
        raise FormatError("a safetensors file, but not a packed model: make one with 'onebit pack'")
    if metadata["onebit_format"] != FORMAT_VERSION:
        found = excerpt(metadata["onebit_format"])
        raise FormatError(f"format version {found}: this onebit reads {FORMAT_VERSION!r}; use a newer one")
    if "program" not in metadata:
        raise FormatError("[program] missing from the metadata; the file is damaged")
    return metadata


def _data_size(entries: dict[str, Any]) -> int:
    """The bytes of data that a header tells of: the end of its last tensor."""
    return max((end for name in entries if name != "__metadata__" for end in [_end_of(entries[name])]), default=0)


def _end_of(entry: Any) -> int:
    """Where the tensor of an entry ends; 0 if the entry is damaged, which is said when its tensor is read."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    end: Any = offsets[1] if isinstance(offsets, list) and len(offsets) == 2 else 0
    return end if type(end) is int and 0 <= end <= _MAX_PLACE else 0


def _prefix_end(nested: NestedModels | None, there: int, whole: int) -> int | None:
    """Where the largest model ends that lies in the first bytes of the data; None if all are there."""
    if there >= whole:
        return None
    ends = [] if nested is None else [end for _, end in nested.smaller]
    if not ends:
        raise FormatError(f"is a part of a file that has no model in a part of it: {whole - there} bytes are missing")
    if there < ends[0]:
        raise FormatError(f"is a part of a file: its first model needs {ends[0] - there} bytes more")
    return max(end for end in ends if end <= there)


def _nested_model(
    nested: NestedModels,
    metadata: dict[str, str],
    entries: dict[str, Any],
    tensors: dict[str, NDArray[Any]],
    task: Any,
    training: dict[str, Any] | None,
    end: int | None,
) -> PackedModel:
    """The largest model of a file, or of its first `end` bytes of data, with those of fewer planes."""
    models: list[PackedModel] = []
    size = _data_size(entries)
    for planes, own_end in (*nested.smaller, (nested.planes, size)):
        if end is not None and own_end > end:
            break
        text = metadata["program" if planes == nested.planes else f"program:{planes}"]
        stored = {name: tensor for name, tensor in tensors.items() if _end_of(entries[name]) <= own_end}
        program = Program.from_json(text)
        own = used_by(program, nested.with_joined(stored, size, own_end == size))
        try:
            models.append(PackedModel(program, own, task, training, planes, tuple(models)))
        except FormatError as error:
            where = "" if planes == nested.planes else f"[planes={planes}] "
            raise FormatError(f"{where}{error}") from None
    return models[-1]


def _with_planes(model: PackedModel, planes: int | None, several: bool) -> PackedModel:
    if planes is None:
        return model
    if not several:
        raise FormatError(f"planes={planes!r}: the file holds no models of fewer planes: leave planes out")
    found = [m for m in (*model.smaller, model) if m.planes == planes and type(planes) is int]
    if not found:
        held = ", ".join(str(m.planes) for m in (*model.smaller, model))
        raise FormatError(f"planes={planes!r}: the file holds models of {held} planes")
    return found[0]


def _read_tensors(
    entries: dict[str, Any], content: mmap.mmap, start: int, end: int | None = None, nested: NestedModels | None = None
) -> dict[str, NDArray[Any]]:
    """The tensors of a header, as read-only views of the mapped file. The data begin at `start`; `end`: only those before this byte of them."""
    size = len(content) - start if end is None else end
    if end is not None:
        entries = {name: entry for name, entry in entries.items() if _end_of(entry) <= end}
    elif nested is not None and size < _data_size(entries):
        advice = f"its first {start + nested.smaller[0][1]} bytes are a model: load it with prefix=True"
        raise FormatError(
            f"is truncated: it needs {_data_size(entries)} bytes of data, the file has {size}; copy it again, or {advice}"
        )
    tensors: dict[str, NDArray[Any]] = {}
    places = []
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        dtype, shape, begin, end = _read_entry(f"tensor {excerpt(name)}", entry, size)
        array = np.frombuffer(content, dtype, math.prod(shape), start + begin).reshape(shape)
        # Another writer may have placed floats at unaligned addresses, which are slow or cannot be read.
        tensors[name] = array if array.flags.aligned else array.copy()
        places.append((begin, end))
    # As in safetensors, each byte of the data must belong to exactly one tensor.
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise _damaged("its tensors overlap, or leave a gap between them")
        reached = end
    if reached != size:
        raise _damaged(f"it has {size - reached} bytes that belong to no tensor")
    return tensors


def _read_entry(where: str, entry: Any, size: int) -> tuple[type[np.generic], Shape, int, int]:
    """The type, the shape and the place in the data of the tensor in one entry of the header."""
    entry = entry if isinstance(entry, dict) else {}
    if not isinstance(entry.get("dtype"), str):
        raise _damaged(f"{where} lacks its dtype")
    if entry["dtype"] not in _DTYPES:
        raise FormatError(
            f"{where} is of type {excerpt(entry['dtype'])}: a packed model holds {', '.join(_DTYPES)}; make one with 'onebit pack'"
        )
    dtype = _DTYPES[entry["dtype"]]
    for name in ("data_offsets", "shape"):
        if not isinstance(entry.get(name), list):
            raise _damaged(f"{where} lacks its {name}")
    offsets, shape = entry["data_offsets"], entry["shape"]
    if len(offsets) != 2 or not all(type(n) is int and 0 <= n <= _MAX_PLACE for n in offsets):
        raise _damaged(f"{where} lies at {excerpt(offsets)}: needs two integers from 0 to {_MAX_PLACE}")
    if len(shape) > _MAX_TENSOR_AXES or not all(type(n) is int and 1 <= n <= _MAX_PLACE for n in shape):
        raise _damaged(f"{where} has the shape {excerpt(shape)}: needs at most {_MAX_TENSOR_AXES} integers from 1")
    begin, end = offsets
    if begin > end:
        raise _damaged(f"{where} ends before it begins")
    if end > size:
        raise FormatError(f"is truncated: {where} needs {end} bytes of data, the file has {size}; copy it again")
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed != end - begin:
        raise _damaged(f"{where} takes {end - begin} bytes, its shape needs another number")
    return dtype, tuple(shape), begin, end


def _damaged(what: str) -> FormatError:
    return FormatError(f"damaged: {what}; copy or pack it again")


def _check_frame(path: Path) -> int:
    """The size of the header. Raises FormatError for what cannot be a safetensors file."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            # Opening a pipe without a writer would block the caller.
            raise FormatError(f"[{path}] is a device or pipe: give a .onebit file")
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
    if len(start) <= _SIZE_BYTES or start[_SIZE_BYTES:] != b"{":
        raise FormatError(f"[{path}] is not a .onebit file: make one with 'onebit pack'")
    header: int = struct.unpack("<Q", start[:_SIZE_BYTES])[0]
    if header > MAX_HEADER_BYTES:
        raise FormatError(f"[{path}] is not a .onebit file: its header claims {header} bytes")
    if _SIZE_BYTES + header > size:
        raise FormatError(
            f"[{path}] is truncated: its header needs {_SIZE_BYTES + header} bytes, the file has {size}; copy it again"
        )
    return header


def write_atomically(path: str | Path, content: bytes | memoryview | Iterable[bytes | memoryview]) -> None:
    """Write a file atomically: write a temporary file in the same folder, flush it to the disk, rename it.

    Args:
        path: the file. A device or a pipe is written to directly and is not replaced.
        content: the bytes, or consecutive parts of them.

    Raises:
        OSError: the file cannot be written (a folder, a missing folder, no permission, a full disk). The old file is unchanged.
    """
    path = expand(path)
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
        # Name the target in the error: the user does not know the temporary file.
        raise OSError(error.errno, error.strerror, str(path)) from None


def place_atomically(path: str | Path, size: int, parts: Iterable[tuple[int, bytes | memoryview]]) -> None:
    """Write a file whose parts come in any order, as `write_atomically` does: whole or not at all.

    Args:
        path: the file. It cannot be a device or a pipe.
        size: the number of bytes of the file. What no part covers is 0.
        parts: (the first byte, the content) of each part.

    Raises:
        OSError: the file cannot be written. The old file is unchanged.
    """
    path = expand(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a folder: give the name of a file")
        if _leads_elsewhere(path):
            raise OSError(errno.ESPIPE, "Is a device or a pipe: give the name of a file")
        with _replacing(path) as file:
            file.truncate(size)
            for start, content in parts:
                file.seek(start)
                file.write(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _leads_elsewhere(path: Path) -> bool:
    """Whether a path is a device or a pipe, or a system link to one, such as /dev/stdout. They must not be replaced."""
    return (path.exists() and not path.is_file()) or (path.is_symlink() and path.is_relative_to("/dev"))


def _replace(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    with _replacing(path) as file:
        file.writelines(parts)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, which takes its place once it is written without an error."""
    # The file gets the mode that open() would give it. Its name stays within the limit for names of files.
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
