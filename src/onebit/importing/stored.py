"""Tensors as they lie in foreign files, which are read in pieces and never trusted."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onebit.errors import ForeignModelError
from onebit.importing.blocks import Coding, Decoded, Levels
from onebit.printable import printable

# Weights that are decoded at once. Working memory is about 12 bytes for each, whatever the size of the tensor.
PIECE_WEIGHTS = 1 << 22


class SourceFile:
    """A file that is open for reading.

    It is read with `pread` and is not mapped: the system kills a process that reads a mapped file which another program has shortened.

    Args:
        path: the file.

    Raises:
        ForeignModelError: it is missing, a folder, a device or a pipe, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_file():
            raise ForeignModelError(f"[{path}] is not a file: give a GGUF file or a folder of safetensors")
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise ForeignModelError(f"[{path}] no such file") from None
        except OSError as error:
            raise ForeignModelError(f"[{path}] cannot be read: {error.strerror}") from None
        self._state = self._look()
        self.size = self._state[0]

    def _look(self) -> tuple[int, int]:
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns

    def fail(self, message: str) -> ForeignModelError:
        return ForeignModelError(f"[{self.path}] {message}")

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from `start`. Raises ForeignModelError if the file ends before, or cannot be read."""
        parts: list[bytes] = []
        while count > 0:
            try:
                part = os.pread(self._file.fileno(), count, start)
            except OSError as error:
                raise self.fail(f"cannot be read: {error.strerror}") from None
            if not part:
                raise self.fail(f"ends at byte {start}: it became shorter while it was read; copy it again")
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def check_unchanged(self) -> None:
        """Raise ForeignModelError if another program has written to the file since it was opened."""
        if self._look() != self._state:
            raise self.fail("changed while it was read: wait until it is complete, then import it again")

    def close(self) -> None:
        self._file.close()


class Opened:
    """What is read out of files that stay open.

    files: all of them.
    """

    files: tuple[SourceFile, ...]

    def check_unchanged(self) -> None:
        """Raise ForeignModelError if a file was written to since it was opened."""
        for file in self.files:
            file.check_unchanged()

    def close(self) -> None:
        for file in self.files:
            file.close()


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a foreign file.

    Args:
        name: its name there.
        shape: as NumPy has it: outputs before inputs. One axis is one row.
        coding: what its bytes mean.
        file: where it lies.
        start: its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    coding: Coding
    file: SourceFile = field(repr=False, compare=False)
    start: int

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def nbytes(self) -> int:
        return self.rows * self.coding.row_bytes(self.columns) + self.coding.tail_bytes

    def fail(self, message: str) -> ForeignModelError:
        return self.file.fail(f"tensor {printable(self.name)!r}: {message}")

    def decode(self, first: int, last: int) -> Decoded:
        """The rows from `first` to `last` - 1."""
        coding, row = self.coding, self.coding.row_bytes(self.columns)
        content = self.file.read(self.start + first * row, (last - first) * row)
        blocks = np.frombuffer(content, np.uint8).reshape(last - first, -1, coding.block_bytes)
        if coding.tail_bytes:
            return self._with_tail(coding.decode(blocks))
        return coding.decode(blocks)

    def pieces(self, multiple: int = 1) -> Iterator[tuple[int, Decoded]]:
        """All rows in pieces, each with the number of its first row.

        Args:
            multiple: the number of rows of a piece is a multiple of this, except the last one.
        """
        step = max(1, PIECE_WEIGHTS // self.columns // multiple) * multiple
        for first in range(0, self.rows, step):
            yield first, self.decode(first, min(self.rows, first + step))

    def floats(self) -> np.ndarray:
        """All of a small tensor, float32 of its shape."""
        found = self.decode(0, self.rows)
        values = found if isinstance(found, np.ndarray) else found.floats()
        return values.reshape(self.shape)

    def _with_tail(self, decoded: Decoded) -> Levels:
        # One float32 after all blocks is the scale of the tensor.
        if not isinstance(decoded, Levels):
            raise AssertionError("only types of levels have a tail")
        tail = self.file.read(self.start + self.nbytes - self.coding.tail_bytes, 4)
        scale = np.frombuffer(tail, "<f4").astype(np.float32).reshape(1, 1)
        return Levels(decoded.codes, np.broadcast_to(scale, decoded.scales.shape))
