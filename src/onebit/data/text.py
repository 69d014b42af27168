"""Text in files, folders and named data sets: read as streams, tokenized once, kept on disk as memory-mapped arrays of tokens."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
import sysconfig
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError
from onebit.paths import expand
from onebit.text import TextTask, Tokenizer, load_vocabulary, train_vocabulary

# The names that need the Hugging Face cache or the network, and where they lie there.
WIKITEXT = {"wikitext-2": "wikitext-2-raw-v1", "wikitext-103": "wikitext-103-raw-v1"}
WIKITEXT_PATH = "Salesforce/wikitext"
Unit = Literal["document", "line"]

# Read and tokenized at once: enough for several threads, and little, since a tokenizer's answer is hundreds of times larger than its text.
_CHUNK_BYTES = 1 << 18
_BATCH_CHARACTERS = 1 << 20
# Of text to train a vocabulary on, in pieces spread over all of it; more changes it little.
_VOCABULARY_BYTES = 20_000_000
_VOCABULARY_CHUNK_BYTES = 1 << 20
_CACHE_FORMAT = 1


@dataclass(frozen=True)
class Document:
    """One text: a file, a range of its bytes, or the rows of a table.

    Args:
        name: for messages, and to divide documents by.
        path: of the file; None for rows.
        start, end: the range of bytes.
        rows: of a data set, a text each.
        fingerprint: changes when the text does.
    """

    name: str
    path: Path | None = None
    start: int = 0
    end: int = 0
    rows: Any = None
    fingerprint: str = ""

    def chunks(self, size: int | None = None) -> Iterator[tuple[str, int]]:
        """The text in pieces that end at a line's end where there is one, each with how many bytes in it were not UTF-8."""
        if self.path is None:
            for row in self.rows:
                yield str(row["text"]), 0
            return
        size = size or _CHUNK_BYTES
        counter = _Replacements()
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                left = self.end - self.start
                while left > 0:
                    data = file.read(min(left, size))
                    if len(data) < left:
                        data += file.readline(min(left - len(data), size))
                    if not data:
                        raise DataError(f"[{self.path}] became shorter while it was read: try again")
                    left -= len(data)
                    before = counter.count
                    text = counter.decode(data, final=left == 0)
                    yield text.replace("\r\n", "\n"), counter.count - before
        except OSError as error:
            raise DataError(f"[{self.path}] cannot be read: {error.strerror}") from None


class _Replacements:
    """A UTF-8 decoder that replaces what is invalid by U+FFFD, and counts how often."""

    def __init__(self) -> None:
        self.count = 0
        self._pending = b""

    def decode(self, data: bytes, final: bool) -> str:
        data = self._pending + data
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data, final)
        self._pending = decoder.getstate()[0]
        whole = data[: len(data) - len(self._pending)]
        self.count += text.count("\ufffd") - whole.count(b"\xef\xbf\xbd")
        return text


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


@dataclass(frozen=True)
class TextSplits:
    """What to train on and what to validate on, with the tokenizer of both.

    Args:
        train, validation: disjoint texts.
        task: of both.
        notes: what a user should know about the texts, a sentence each.
    """

    train: TextSet
    validation: TextSet
    task: TextTask
    notes: tuple[str, ...] = ()


def load_text(
    source: str,
    vocabulary: str | int,
    unit: Unit = "document",
    validation: str | None = None,
    share: float = 0.05,
    seed: int = 0,
) -> TextSplits:
    """Texts to train and to validate on, tokenized.

    Args:
        source: "python" (documentation and sources that come with the interpreter), "wikitext-2", "wikitext-103" (raw), a text file, or a
            folder of text files.
        vocabulary: a number of tokens to train a vocabulary of on the training text, or the path of a `vocab.txt`.
        unit: what separators stand between: whole documents, or lines (the paper's sentences).
        validation: another source to validate on; default the data set's own part, else `share` of the documents (of a single file, its end).
        share: above 0, below 1.
        seed: of the choice of documents.

    Raises:
        DataError: a source cannot be used, or holds no text.
    """
    train, held_out, notes = _divide(source, validation, share, seed)
    task = load_vocabulary(vocabulary) if isinstance(vocabulary, str) else _train(train, vocabulary, source)
    tokenizer = Tokenizer(task)
    parts = []
    for documents, name in ((train, source), (held_out, validation or source)):
        part, more = prepare_text(documents, tokenizer, unit, name)
        parts.append(part)
        notes += more
    return TextSplits(parts[0], parts[1], task, tuple(dict.fromkeys(notes)))


def load_validation_text(
    source: str, task: TextTask, unit: Unit, validation: str | None = None, share: float = 0.05, seed: int = 0
) -> tuple[TextSet, list[str]]:
    """The validation text alone that `load_text` sets aside, with a known tokenizer; and notes for the user."""
    _, held_out, notes = _divide(source, validation, share, seed)
    text, more = prepare_text(held_out, Tokenizer(task), unit, validation or source)
    return text, notes + more


def load_evaluation_text(
    source: str, task: TextTask, unit: Unit = "document", part: str = "test"
) -> tuple[TextSet, list[str]]:
    """All of a source (the `part` of a named data set) for evaluation, with notes for the user."""
    documents, notes = _documents(source, part)
    text, more = prepare_text(documents, Tokenizer(task), unit, source)
    return text, notes + more


def _divide(
    source: str, validation: str | None, share: float, seed: int
) -> tuple[list[Document], list[Document], list[str]]:
    documents, notes = _documents(source, "train")
    if validation is not None:
        other, more = _documents(validation, "validation")
        return documents, other, notes + more
    if source in WIKITEXT:
        return documents, _documents(source, "validation")[0], notes
    if len(documents) == 1:
        only = documents[0]
        assert only.path is not None
        cut = only.start + round((only.end - only.start) * (1 - share))
        with only.path.open("rb") as file:
            file.seek(cut)
            cut += len(file.readline(_CHUNK_BYTES))  # at a line's end, where there is one
        if not only.start < cut < only.end:
            raise DataError(f"[{source}] is too short to set {share} of it aside: give --validation-data")
        return [replace(only, end=cut)], [replace(only, start=cut)], notes
    # By name, so that a document that is added moves no other from one side to the other.
    rank = {d.name: zlib.crc32(f"{seed}:{d.name}".encode()) for d in documents}
    held_out = [d for d in documents if rank[d.name] < share * 2**32]
    if not held_out:
        held_out = [min(documents, key=lambda d: rank[d.name])]
    chosen = {d.name for d in held_out}
    return [d for d in documents if d.name not in chosen], held_out, notes


def _documents(source: str, part: str) -> tuple[list[Document], list[str]]:
    """The documents of a source in a fixed order, and notes for the user."""
    if source == "python":
        folder = Path(sysconfig.get_paths()["stdlib"])
        files = [
            p
            for p in sorted(folder.rglob("*.py"))
            # Tests, and what else is installed beside the library, differ from machine to machine; the code pages are tables of numbers.
            if not {"test", "tests", "idlelib", "lib2to3", "encodings", "site-packages", "dist-packages", "__pycache__"}
            & set(p.relative_to(folder).parts)
        ]
        return _text_files(files, folder, source)
    if source in WIKITEXT:
        return [_load_wikitext(source, part)], []
    path = expand(source)
    if path.is_dir():
        files = [
            p
            for p in sorted(path.rglob("*"))
            if p.is_file() and not any(name.startswith(".") for name in p.relative_to(path).parts)
        ]
        return _text_files(files, path, source)
    if not path.exists():
        names = ", ".join(["python", *WIKITEXT])
        raise DataError(f"[{source}] no such file or folder: give one, or one of {names}")
    documents, notes = _text_files([path], path.parent, source)
    return documents, notes


def _text_files(files: Sequence[Path], folder: Path, source: str) -> tuple[list[Document], list[str]]:
    documents, binary = [], []
    for path in files:
        try:
            size, modified = path.stat().st_size, path.stat().st_mtime_ns
            with path.open("rb") as file:
                start = file.read(8192)
        except OSError as error:
            raise DataError(f"[{path}] cannot be read: {error.strerror}") from None
        if b"\0" in start:
            binary.append(path)
        elif start.strip():
            name = path.relative_to(folder).as_posix()
            documents.append(Document(name, path, 0, size, fingerprint=f"{path.resolve()}:{size}:{modified}"))
    if not documents:
        raise DataError(
            f"[{source}] holds no text: "
            + (f"{binary[0].name} is binary; " if binary else "it is empty; " if files else "")
            + "give a text file, or a folder of text files"
        )
    notes = []
    if binary:
        notes.append(f"{source}: {len(binary)} binary files were left out, the first {binary[0].relative_to(folder)}")
    return documents, notes


def _load_wikitext(name: str, part: str) -> Document:
    try:
        import datasets
    except ImportError:
        raise DataError(f'[{name}] is loaded through Hugging Face datasets: pip install "onebit[train]"') from None
    try:
        table = datasets.load_dataset(WIKITEXT_PATH, WIKITEXT[name], split=part)
    except Exception as error:  # the library and the network raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"[{name}] cannot be loaded ({reason}): go online once so that it is kept in the cache, or give text files with --data PATH"
        ) from None
    if "text" not in table.column_names:
        raise DataError(f"[{name}] has the columns {table.column_names}: needs 'text'")
    return Document(f"{name}/{part}", rows=table, fingerprint=f"{name}:{part}:{table._fingerprint}:{len(table)}")


def _train(documents: Sequence[Document], size: int, source: str) -> TextTask:
    """A vocabulary from evenly spread pieces of the documents; the same for the same documents."""
    total = sum(d.end - d.start for d in documents) or 1
    keep = max(1, round(total / _VOCABULARY_BYTES))  # every so many pieces

    def pieces() -> Iterator[str]:
        index, seen = 0, 0
        for document in documents:
            for text, _ in document.chunks(_VOCABULARY_CHUNK_BYTES):
                index += 1
                # Pieces of files are evenly long, rows are short: those are taken until there is enough.
                if document.path is None:
                    seen += len(text)
                    if seen > _VOCABULARY_BYTES:
                        return
                    yield text
                elif index % keep == 0 or keep == 1:
                    yield text

    cache = _cache_folder() / "vocabularies"
    key = _digest([_CACHE_FORMAT, size, [d.fingerprint for d in documents], [(d.start, d.end) for d in documents]])
    file = cache / f"{key}.json"
    if file.is_file():
        return TextTask.from_json(json.loads(file.read_text("utf-8")))
    task = train_vocabulary(pieces(), size)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=cache, encoding="utf-8", delete=False) as part:
        json.dump(task.to_json(), part)
    Path(part.name).replace(file)
    return task


def prepare_text(
    documents: Sequence[Document], tokenizer: Tokenizer, unit: Unit, source: str
) -> tuple[TextSet, list[str]]:
    """Tokenize documents as a stream into a file of tokens, once: a second call finds it in the cache.

    The cache is $ONEBIT_CACHE, else onebit in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        DataError: there is no text.
    """
    key = _digest(
        [
            _CACHE_FORMAT,
            unit,
            tokenizer.task.to_json(),
            [(d.fingerprint, d.start, d.end) for d in documents],
        ]
    )
    folder = _cache_folder() / "tokens" / key
    if not (folder / "text.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _write_tokens(documents, tokenizer, unit, partial, source)
            try:
                partial.rename(folder)
            except OSError:
                if not (folder / "text.json").is_file():  # else another process was first, with the same result
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    known = json.loads((folder / "text.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", dtype=known.pop("dtype"), mode="r")
    text = TextSet(tokens, source, **known)
    notes = []
    if text.replaced:
        notes.append(f"{source}: invalid UTF-8 was replaced in {text.replaced:,} places")
    if text.unknown:
        notes.append(
            f"{source}: {text.unknown:,} of {len(text):,} tokens are [UNK]; what they stood for is lost to the figures"
        )
    return text, notes


def _write_tokens(documents: Sequence[Document], tokenizer: Tokenizer, unit: Unit, folder: Path, source: str) -> None:
    dtype = np.uint16 if tokenizer.size <= 1 << 16 else np.uint32
    counts = {"bytes": 0, "documents": 0, "replaced": 0, "unknown": 0}
    with (folder / "tokens.bin").open("wb") as file:

        def write(ids: Sequence[int]) -> None:
            array = np.asarray(ids, dtype)
            counts["unknown"] += int((array == tokenizer.unknown).sum())
            array.tofile(file)

        write([tokenizer.separator])
        for batch in _batches(_units(documents, unit, counts)):
            for (_, ends), ids in zip(batch, tokenizer.encode_many([text for text, _ in batch]), strict=True):
                write([*ids, tokenizer.separator] if ends else ids)
    if not counts["bytes"]:
        raise DataError(f"[{source}] holds no text: give a text file, or a folder of text files")
    (folder / "text.json").write_text(json.dumps({"dtype": np.dtype(dtype).name, **counts}))


def _units(documents: Iterable[Document], unit: Unit, counts: dict[str, int]) -> Iterator[tuple[str, bool]]:
    """Pieces of text, each with whether a separator follows it; counts what they hold."""
    for document in documents:
        rest = ""
        for text, replaced in document.chunks():
            counts["replaced"] += replaced
            if unit == "document":
                counts["bytes"] += len(text.encode())
                yield text, False
                continue
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                if line.strip():
                    counts["bytes"] += len(line.encode()) + 1
                    counts["documents"] += 1
                    yield line, True
        if unit == "document":
            counts["documents"] += 1
            yield "", True
        elif rest.strip():
            counts["bytes"] += len(rest.encode()) + 1
            counts["documents"] += 1
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


def _cache_folder() -> Path:
    if "ONEBIT_CACHE" in os.environ:
        return Path(os.environ["ONEBIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onebit"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
