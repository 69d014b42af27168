"""Texts as arrays of tokens: tokenized once, as a stream, and kept on disk, from where they are mapped into memory."""

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
from onebit.text import Tokenizer

if TYPE_CHECKING:
    from onebit.data.text import Document

Unit = Literal["document", "line"]

# Of what lies in the cache: another number where the same text gives other tokens.
CACHE_FORMAT = 2
# Tokenized at once, and the longest part of a line that is kept in memory.
_BATCH_CHARACTERS = 1 << 20
# Of tokens that are held in memory, where no disk takes them.
_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True)
class TextSet:
    """Tokens of a text, and what they stand for.

    Args:
        tokens: uint16 or uint32 (n,), memory-mapped: a separator, then each document (or line) followed by a separator.
        source: for messages and records.
        bytes: of the text in UTF-8.
        documents: how many documents or lines.
        replaced: how often invalid UTF-8 was replaced.
        unknown: how many tokens are [UNK].
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
        """Predicted tokens for each byte of text: nats a token times this, over ln 2, are bits per byte."""
        return (len(self.tokens) - 1) / self.bytes


def prepare_text(
    documents: Sequence[Document], tokenizer: Tokenizer, unit: Unit, source: str
) -> tuple[TextSet, list[str]]:
    """Tokenize documents as a stream into a file of tokens, once: a second call finds it in the cache; see `cache_folder`.

    Where the cache cannot be written, the tokens lie in a temporary file that no name leads to, or in memory, and a note says so.

    Raises:
        DataError: there is no text, or no place for its tokens.
    """
    key = digest([CACHE_FORMAT, unit, tokenizer.task.to_json(), [(d.fingerprint, d.start, d.end) for d in documents]])
    notes = []
    try:
        tokens, known = _kept(cache_folder() / "tokens" / key, documents, tokenizer, unit, source)
    except OSError as error:
        problem = cannot_keep("tokens", error)
        notes.append(
            f"{source}: {problem} and are made anew each time: set ONEBIT_CACHE to a folder that can be written"
        )
        try:
            tokens, known = _not_kept(documents, tokenizer, unit, source)
        except OSError as second:
            raise DataError(
                f"[{source}] {problem}, and there is no place in a temporary folder ({second.strerror or second}): "
                "set ONEBIT_CACHE to a folder with room"
            ) from None
    text = TextSet(tokens, source, **known)
    if text.replaced:
        notes.append(f"{source}: invalid UTF-8 was replaced in {text.replaced:,} places")
    if text.unknown:
        notes.append(
            f"{source}: {text.unknown:,} of {len(text):,} tokens are [UNK]; what they stood for is lost to the figures"
        )
    return text, notes


def _kept(
    folder: Path, documents: Sequence[Document], tokenizer: Tokenizer, unit: Unit, source: str
) -> tuple[NDArray[Any], dict[str, int]]:
    """Tokens out of the cache, after they were written there if need be; and what is known of them."""
    try:
        return _read(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (ValueError, KeyError, TypeError):  # damaged, by a crash of the machine for example
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
            if not (folder / "text.json").is_file():  # else another process was first, with the same result
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _read(folder)


def _read(folder: Path) -> tuple[NDArray[Any], dict[str, int]]:
    known = json.loads((folder / "text.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", dtype=known.pop("dtype"), mode="r")
    if len(tokens) != known.pop("tokens"):
        raise ValueError("the file of tokens is cut")
    return tokens, known


def _not_kept(
    documents: Sequence[Document], tokenizer: Tokenizer, unit: Unit, source: str
) -> tuple[NDArray[Any], dict[str, int]]:
    """As `_kept`, in a temporary file; in memory, where the folder of those has no room either."""
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
    """A file in memory that is full where a larger one could leave the machine without any."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _MEMORY_BYTES:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return super().write(data)


def _write_tokens(
    documents: Sequence[Document], tokenizer: Tokenizer, unit: Unit, file: IO[bytes], source: str
) -> dict[str, Any]:
    """Write the tokens of documents into a file; what is known of them: their type and number, and the counts of a `TextSet`."""
    dtype = np.uint16 if tokenizer.size <= 1 << 16 else np.uint32
    counts = {"tokens": 0, "bytes": 0, "documents": 0, "replaced": 0, "unknown": 0}

    def write(ids: NDArray[Any]) -> None:
        counts["unknown"] += int((ids == tokenizer.unknown).sum())
        counts["tokens"] += len(ids)
        file.write(ids.astype(dtype).tobytes())  # NumPy's own way into a file does not say what the system said

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
        raise DataError(f"[{source}] holds no text: give a text file, or a folder of text files")
    return {"dtype": np.dtype(dtype).name, **counts}


def _units(documents: Iterable[Document], unit: Unit, counts: dict[str, int]) -> Iterator[tuple[str, bool]]:
    """Pieces of text, each with whether a separator follows it; counts what they hold."""

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
    """The lines of a text that are not blank, each with True; of one that is longer than a batch the parts before its last with False."""
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
    """A name for what hangs on these values of JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
