"""Texts as arrays of tokens. A text is tokenized once, as a stream, into a file that is mapped into memory."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.data.cache import cache_folder, cannot_keep
from onebit.errors import DataError
from onebit.subwords import AnyTokenizer

if TYPE_CHECKING:
    from onebit.data.text import Document

Unit = Literal["document", "line"]

# The version of the cache. Increase it when the same text gives other tokens.
CACHE_FORMAT = 2
# The amount of text to tokenize at once, and the longest part of a line in memory.
_BATCH_CHARACTERS = 1 << 20
# The most memory for tokens that cannot be written to a disk.
_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True)
class TextSet:
    """The tokens of a text, and counts of it.

    Args:
        tokens: uint16 or uint32 (n,), memory-mapped: a separator, then each document (or line) followed by a separator.
        source: the name of the text in messages and records.
        bytes: the length of the text in UTF-8.
        documents: the number of documents or lines.
        replaced: the number of places where invalid UTF-8 was replaced.
        unknown: the number of tokens that are [UNK].
    """

    tokens: NDArray[Any]
    source: str
    bytes: int
    documents: int
    replaced: int
    unknown: int

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def tokens_per_byte(self) -> float:
        """Predicted tokens per byte of text. Nats per token times this, divided by ln 2, are bits per byte."""
        return (len(self.tokens) - 1) / self.bytes


def prepare_text(
    documents: Sequence[Document], tokenizer: AnyTokenizer, unit: Unit, source: str
) -> tuple[TextSet, list[str]]:
    """Tokenize documents as a stream into a file of tokens. A second call finds the file in the cache; see `cache_folder`.

    If the cache cannot be written, the tokens go to an unnamed temporary file or to memory, and a note says so.

    Raises:
        DataError: there is no text, or no space for its tokens.
    """
    key = digest([CACHE_FORMAT, unit, tokenizer.task.to_json(), [(d.fingerprint, d.start, d.end) for d in documents]])
    notes = []
    try:
        tokens, known = _kept(cache_folder() / "tokens" / key, documents, tokenizer, unit, source)
    except OSError as error:
        problem = cannot_keep("tokens", error)
        notes.append(
            f"{source}: {problem} and are made again each time: set ONEBIT_CACHE to a folder that can be written"
        )
        try:
            tokens, known = _not_kept(documents, tokenizer, unit, source)
        except OSError as second:
            raise DataError(
                f"[{source}] {problem}, and the temporary folder has no space ({second.strerror or second}): "
                "set ONEBIT_CACHE to a folder with space"
            ) from None
    text = TextSet(tokens, source, **known)
    if text.replaced:
        notes.append(f"{source}: invalid UTF-8 was replaced in {text.replaced:,} places")
    if text.unknown:
        notes.append(
            f"{source}: {text.unknown:,} of {len(text):,} tokens are [UNK]; the figures do not see the text that they stand for"
        )
    return text, notes


def _kept(
    folder: Path, documents: Sequence[Document], tokenizer: AnyTokenizer, unit: Unit, source: str
) -> tuple[NDArray[Any], dict[str, int]]:
    """Tokens from the cache, written there first if they are missing, and their counts."""
    try:
        return _read(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (ValueError, KeyError, TypeError):  # damaged, for example by a crash of the machine
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with (partial / "tokens.bin").open("wb") as file:
            known = _write_tokens(documents, tokenizer, unit, file, source)
        (partial / "text.json").write_text(json.dumps(known))
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "text.json").is_file():  # otherwise another process was first, with the same result
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _read(folder)


def _read(folder: Path) -> tuple[NDArray[Any], dict[str, int]]:
    known = json.loads((folder / "text.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", dtype=known.pop("dtype"), mode="r")
    if len(tokens) != known.pop("tokens"):
        raise ValueError("the file of tokens is truncated")
    return tokens, known


def _not_kept(
    documents: Sequence[Document], tokenizer: AnyTokenizer, unit: Unit, source: str
) -> tuple[NDArray[Any], dict[str, int]]:
    """As `_kept`, but in a temporary file, or in memory if the temporary folder has no space either."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as its tokens)
        known = _write_tokens(documents, tokenizer, unit, file, source)
        file.flush()
        tokens: NDArray[Any] = np.memmap(file, dtype=known.pop("dtype"), mode="r")
    except OSError:
        memory = _Memory()
        known = _write_tokens(documents, tokenizer, unit, memory, source)
        tokens = np.frombuffer(memory.getbuffer(), known.pop("dtype"))
    del known["tokens"]
    return tokens, known


class _Memory(io.BytesIO):
    """A file in memory with a limit that leaves the machine enough memory."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _MEMORY_BYTES:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return super().write(data)


def _write_tokens(
    documents: Sequence[Document], tokenizer: AnyTokenizer, unit: Unit, file: IO[bytes], source: str
) -> dict[str, Any]:
    """Write the tokens of documents into a file. Returns their type and number, and the counts of a `TextSet`."""
    dtype = np.uint16 if tokenizer.size <= 1 << 16 else np.uint32
    counts = {"tokens": 0, "bytes": 0, "documents": 0, "replaced": 0, "unknown": 0}

    def write(ids: NDArray[Any]) -> None:
        counts["unknown"] += int((ids == tokenizer.unknown).sum())
        counts["tokens"] += len(ids)
        file.write(ids.astype(dtype).tobytes())  # NumPy's own writer does not report the system's error

    separator = np.array([tokenizer.separator])
    write(separator)
    for batch in _batches(_units(documents, unit, counts)):
        arrays = tokenizer.arrays([text for text, _ in batch])
        write(
            np.concatenate(
                [
                    part
                    for (_, ends), ids in zip(batch, arrays, strict=True)
                    for part in ((ids, separator) if ends else (ids,))
                ]
            )
        )
    if not counts["bytes"]:
        raise DataError(f"[{source}] contains no text: give a text file, or a folder of text files")
    return {"dtype": np.dtype(dtype).name, **counts}


def _units(documents: Iterable[Document], unit: Unit, counts: dict[str, int]) -> Iterator[tuple[str, bool]]:
    """Yield pieces of text, each with whether a separator follows it, and count what they contain."""

    def pieces(document: Document) -> Iterator[str]:
        for text, replaced in document.chunks():
            counts["replaced"] += replaced
            yield text

    for document in documents:
        if unit == "document":
            for text in pieces(document):
                counts["bytes"] += len(text.encode())
                yield text, False
            counts["documents"] += 1
            yield "", True
            continue
        for text, ends in _lines(pieces(document)):
            counts["bytes"] += len(text.encode()) + ends
            counts["documents"] += ends
            yield text, ends


def _lines(pieces: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a text that are not blank, with True. A line longer than a batch gives its parts, all but the last with False."""
    rest, begun = "", False
    for text in pieces:
        *lines, last = text.replace("\r", "\n").split("\n")
        for line in lines:
            if begun or rest.strip() or line.strip():
                yield rest + line, True
            rest, begun = "", False
        rest += last
        if len(rest) >= _BATCH_CHARACTERS:
            yield rest, False
            rest, begun = "", True
    if begun or rest.strip():
        yield rest, True


def _batches(units: Iterable[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    batch: list[tuple[str, bool]] = []
    size = 0
    for unit in units:
        batch.append(unit)
        size += len(unit[0]) + 64
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def digest(values: Any) -> str:
    """A name for a cached file that depends on these JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
