"""Read GGUF files, the format of llama.cpp: versions 2 and 3, in one file or in several. Nothing in a file is trusted.

A file holds a magic number, a version, the numbers of tensors and of metadata values; then the metadata, then a name, a shape, a type and an offset
for each tensor, and last the tensors, each at a multiple of the alignment. All of it is little-endian.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebit.errors import ForeignModelError
from onebit.importing.blocks import CODINGS, OTHER_TYPES, Q2_0_G128, Coding
from onebit.importing.stored import Opened, SourceFile, StoredTensor
from onebit.paths import expand
from onebit.strict_json import excerpt

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# The largest models have some thousand tensors and some hundred values. The limits bound the work on a hostile file.
MAX_TENSORS = 1 << 17
MAX_KEYS = 1 << 16
MAX_KEY_BYTES = 1 << 10
# A vocabulary has three lists, of up to 2^20 entries each, and one of merges.
MAX_ELEMENTS = 1 << 22
MAX_TEXT_BYTES = 1 << 26
MAX_DEPTH = 4
MAX_ALIGNMENT = 1 << 20
MAX_AXES = 4
MAX_AXIS = 1 << 31
_AMBIGUOUS = 42
_TEXT, _LIST = 8, 9
_NUMBERS: dict[int, str] = {
    **{0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4"},
    **{7: "u1", 10: "<u8", 11: "<i8", 12: "<f8"},  # 7 is a boolean
}
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


class _Cursor:
    """Reads the head of a file from its beginning, with every bound checked."""

    BUFFER = 1 << 20

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.position = 0
        self._buffer, self._from = b"", 0
        self.elements = 0

    def fail(self, message: str) -> ForeignModelError:
        return self.file.fail(f"damaged: {message}; copy it again")

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        if count > self.file.size - self.position:
            raise self.file.fail(
                f"is truncated: {what} needs {count} bytes at byte {self.position}, the file has {self.file.size}; copy it again"
            )
        start = self.position - self._from
        if not 0 <= start <= len(self._buffer) - count:
            length = min(max(count, self.BUFFER), self.file.size - self.position)
            self._buffer, self._from, start = self.file.read(self.position, length), self.position, 0
        self.position += count
        return self._buffer[start : start + count]

    def whole(self, form: str, what: str) -> int:
        """The next integer, in a form of `struct`."""
        return int(struct.unpack(form, self.take(struct.calcsize(form), what))[0])

    def text(self, what: str, most: int = MAX_TEXT_BYTES) -> str:
        length = self.whole("<Q", f"the length of {what}")
        if length > min(most, self.file.size - self.position):
            raise self.fail(f"{what} has {length} bytes: needs at most {min(most, self.file.size - self.position)}")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8") from None

    def value(self, kind: int, what: str, depth: int = 0) -> Any:
        """A value of the metadata: a number, a boolean, a text, a list, or a NumPy array of numbers."""
        if kind == _TEXT:
            return self.text(what)
        if kind == _LIST:
            return self._list(what, depth + 1)
        if kind not in _NUMBERS:
            raise self.fail(f"{what} is of the unknown type {kind}: types are 0 to 12")
        dtype = np.dtype(_NUMBERS[kind])
        number = np.frombuffer(self.take(dtype.itemsize, what), dtype)[0].item()
        return self._boolean(number, what) if kind == 7 else number

    def _boolean(self, number: int, what: str) -> bool:
        if number > 1:
            raise self.fail(f"{what} is a boolean of {number}: needs 0 or 1")
        return number == 1

    def _list(self, what: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.fail(f"{what} is nested more than {MAX_DEPTH} deep")
        kind, count = self.whole("<I", f"the type of {what}"), self.whole("<Q", f"the length of {what}")
        self.elements += count
        if self.elements > MAX_ELEMENTS:
            raise self.fail(f"{what} has {count} elements: all lists together have at most {MAX_ELEMENTS}")
        if kind in _NUMBERS:
            dtype = np.dtype(_NUMBERS[kind])
            return np.frombuffer(self.take(count * dtype.itemsize, what), dtype)
        if kind not in (_TEXT, _LIST):
            raise self.fail(f"{what} has elements of the unknown type {kind}: types are 0 to 12")
        least = 8 if kind == _TEXT else 12
        if count * least > self.file.size - self.position:
            raise self.file.fail(f"is truncated: {what} claims {count} elements, which the file cannot hold")
        return [self.value(kind, what, depth) for _ in range(count)]


@dataclass(frozen=True)
class GGUF(Opened):
    """The contents of a GGUF file, or of all parts of a split one.

    Args:
        path: the file, or its first part.
        metadata: values by key; lists of numbers are NumPy arrays.
        tensors: by name, in the order of the file.
        files: all parts.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]
    files: tuple[SourceFile, ...]


def read_gguf(path: str | Path) -> GGUF:
    """Read the head of a GGUF file, and of its other parts if it is split.

    Args:
        path: the file, or any part.

    Raises:
        ForeignModelError: a file is missing, truncated, damaged, of an unknown version or byte order, or has a tensor of a type that is not known.
    """
    path = expand(path)
    found = _PART.fullmatch(path.name)
    if found is None:
        part = _read_part(path)
        if (count := part.metadata.get("split.count", 1)) not in (0, 1):
            raise ForeignModelError(
                f"[{path}] is one of {excerpt(count)} parts: name them NAME-00001-of-{_five(count)}.gguf and so on, and give any of them"
            )
        return part
    stem, count = found[1], int(found[3])
    if not 1 <= int(found[2]) <= count <= 10_000:
        raise ForeignModelError(f"[{path}] part {int(found[2])} of {count}: needs a part from 1 to the number of parts")
    parts = [_read_part(path.with_name(f"{stem}-{i:05d}-of-{count:05d}.gguf"), i, count) for i in range(1, count + 1)]
    return _joined(parts)


def first_part(path: Path) -> Path:
    """The first part of a split file, of which `path` is any part; another file as it is."""
    found = _PART.fullmatch(path.name)
    return path if found is None else path.with_name(f"{found[1]}-00001-of-{found[3]}.gguf")


def _five(count: Any) -> str:
    return f"{count:05d}" if type(count) is int else "0000N"


def _joined(parts: Sequence[GGUF]) -> GGUF:
    first = parts[0]
    tensors: dict[str, StoredTensor] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise tensor.fail(f"stands in {tensors[name].file.path.name} too: keep one of them")
            tensors[name] = tensor
    needed = first.metadata.get("split.tensors.count", len(tensors))
    if needed != len(tensors):
        raise ForeignModelError(
            f"[{first.path}] the parts have {len(tensors)} tensors, the first says {excerpt(needed)}: copy all parts again"
        )
    return GGUF(first.path, first.metadata, tensors, tuple(file for part in parts for file in part.files))


def _read_part(path: Path, number: int = 1, count: int = 1) -> GGUF:
    if count > 1 and not path.exists():
        raise ForeignModelError(f"[{path}] part {number} of {count} is missing: put all parts into one folder")
    file = SourceFile(path)
    try:
        cursor = _Cursor(file)
        tensor_count, key_count = _read_counts(cursor)
        metadata = _read_metadata(cursor, key_count)
        if count > 1 and (metadata.get("split.no"), metadata.get("split.count")) != (number - 1, count):
            seen = (
                f"split.no={excerpt(metadata.get('split.no'))} and split.count={excerpt(metadata.get('split.count'))}"
            )
            raise file.fail(f"has {seen}, but its name says part {number} of {count}: give each part its own name")
        return GGUF(path, metadata, _read_tensors(cursor, tensor_count, metadata), (file,))
    except BaseException:
        file.close()
        raise


def _read_counts(cursor: _Cursor) -> tuple[int, int]:
    file = cursor.file
    if file.size < 24 or file.read(0, 4) != MAGIC:
        raise file.fail("is not a GGUF file: it needs the letters GGUF at its beginning")
    cursor.take(4, "the magic number")
    version = cursor.whole("<I", "the version")
    if version not in VERSIONS:
        if version.to_bytes(4, "little")[::-1] in (v.to_bytes(4, "little") for v in VERSIONS):
            raise file.fail("is a GGUF file of a big-endian machine: convert it on that machine")
        raise file.fail(f"is a GGUF file of version {version}: use versions {' and '.join(map(str, VERSIONS))}")
    tensors, keys = cursor.whole("<Q", "the number of tensors"), cursor.whole("<Q", "the number of keys")
    for what, count, most in (("tensors", tensors, MAX_TENSORS), ("metadata keys", keys, MAX_KEYS)):
        if count > most:
            raise cursor.fail(f"it claims {count} {what}: needs at most {most}")
    return tensors, keys


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(count):
        key = cursor.text(f"the name of metadata key {index}", MAX_KEY_BYTES)
        if key in metadata:
            raise cursor.fail(f"the metadata key {excerpt(key)} stands twice")
        kind = cursor.whole("<I", f"the type of {excerpt(key)}")
        metadata[key] = cursor.value(kind, f"the value of {excerpt(key)}")
    return metadata


def _read_tensors(cursor: _Cursor, count: int, metadata: dict[str, Any]) -> dict[str, StoredTensor]:
    infos: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for index in range(count):
        name = cursor.text(f"the name of tensor {index}", MAX_KEY_BYTES)
        if name in infos:
            raise cursor.fail(f"the tensor {excerpt(name)} stands twice")
        infos[name] = _read_info(cursor, f"tensor {excerpt(name)}")
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.file.fail(
            f"general.alignment={excerpt(alignment)}: needs a power of two from 1 to {MAX_ALIGNMENT}; write the file again"
        )
    start = -(-cursor.position // alignment) * alignment
    return _place(cursor.file, infos, start, alignment)


def _read_info(cursor: _Cursor, what: str) -> tuple[tuple[int, ...], int, int]:
    """The shape, the type and the offset of a tensor."""
    axes = cursor.whole("<I", f"the number of axes of {what}")
    if not 1 <= axes <= MAX_AXES:
        raise cursor.fail(f"{what} has {axes} axes: needs 1 to {MAX_AXES}")
    shape = tuple(cursor.whole("<Q", f"the shape of {what}") for _ in range(axes))[::-1]
    if not all(1 <= n <= MAX_AXIS for n in shape):
        raise cursor.fail(f"{what} has the shape {excerpt(list(shape))}: needs axes from 1 to {MAX_AXIS}")
    kind, offset = cursor.whole("<I", f"the type of {what}"), cursor.whole("<Q", f"the offset of {what}")
    if kind not in CODINGS:
        known = ", ".join(coding.name for coding in CODINGS.values())
        raise cursor.file.fail(f"{what} is of type {kind} ({OTHER_TYPES.get(kind, 'unknown')}): onebit reads {known}")
    return shape, kind, offset


def _place(
    file: SourceFile, infos: dict[str, tuple[tuple[int, ...], int, int]], start: int, alignment: int
) -> dict[str, StoredTensor]:
    """Check that the tensors lie in the file, aligned and apart, and tell the two types of the number 42 apart."""
    offsets = sorted({offset for _, _, offset in infos.values()})
    end = file.size - start
    # The distance of each to the next one, or to the end of the file.
    room = {here: there - here for here, there in zip(offsets, [*offsets[1:], end], strict=False)}
    variant = _of_ambiguous(infos, room, alignment)
    tensors: dict[str, StoredTensor] = {}
    for name, (shape, kind, offset) in infos.items():
        tensor = StoredTensor(name, shape, variant if kind == _AMBIGUOUS else CODINGS[kind], file, start + offset)
        if offset % alignment:
            raise tensor.fail(
                f"lies at {offset}, which is not a multiple of the alignment {alignment}; copy the file again"
            )
        if tensor.columns % tensor.coding.weights:
            raise tensor.fail(
                f"has rows of {tensor.columns} weights: {tensor.coding.name} needs a multiple of {tensor.coding.weights}"
            )
        if offset > end or tensor.nbytes > end - offset:
            raise tensor.fail(
                f"needs {tensor.nbytes} bytes at byte {tensor.start}, the file has {file.size}: it is truncated; copy it again"
            )
        if tensor.nbytes > room[offset]:
            raise tensor.fail("overlaps the next tensor; copy the file again")
        tensors[name] = tensor
    _refuse_same_place(tensors.values())
    return tensors


def _refuse_same_place(tensors: Any) -> None:
    seen: dict[int, str] = {}
    for tensor in tensors:
        if tensor.start in seen:
            raise tensor.fail(f"lies where {excerpt(seen[tensor.start])} lies; copy the file again")
        seen[tensor.start] = tensor.name


def _of_ambiguous(infos: dict[str, tuple[tuple[int, ...], int, int]], room: dict[int, int], alignment: int) -> Coding:
    """Q2_0 has blocks of 64 weights today and had blocks of 128 in an older fork, under one number: the distances of tensors tell."""

    def fits(coding: Coding) -> int:
        """The number of tensors that fill the room up to the next one."""
        count = 0
        for shape, kind, offset in infos.values():
            if kind == _AMBIGUOUS and shape[-1] % coding.weights == 0:
                needed = math.prod(shape[:-1]) * coding.row_bytes(shape[-1])
                padded = -(-needed // alignment) * alignment
                count += room[offset] in (needed, padded)
        return count

    return max((CODINGS[_AMBIGUOUS], Q2_0_G128), key=fits)  # the first of equals: today's
