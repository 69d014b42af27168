"""Read text from files, folders and named data sets as streams, and divide it into training and validation."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
import sysconfig
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onebit.data.cache import cache_folder
from onebit.data.tokens import CACHE_FORMAT, TextSet, Unit, digest, prepare_text
from onebit.errors import DataError
from onebit.fileformat import write_atomically
from onebit.paths import expand
from onebit.subwords import AnyTextTask, tokenizer_for
from onebit.text import TextTask, Tokenizer, load_vocabulary, train_vocabulary

# Names that need the Hugging Face cache or the network, and their paths on the hub.
WIKITEXT = {"wikitext-2": "wikitext-2-raw-v1", "wikitext-103": "wikitext-103-raw-v1"}
WIKITEXT_PATH = "Salesforce/wikitext"

# The size of one read.
_CHUNK_BYTES = 1 << 18
# The amount of text to train a vocabulary on, in pieces spread over the whole. More text changes the vocabulary little.
_VOCABULARY_BYTES = 20_000_000
_VOCABULARY_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Document:
    """One text: a file, a range of its bytes, or the rows of a table.

    Args:
        name: the name in messages, which also decides the part that the document goes to.
        path: the path of the file; None for rows.
        start, end: the range of bytes.
        rows: the rows of a data set, one text each.
        fingerprint: a value that changes with the text.
    """

    name: str
    path: Path | None = None
    start: int = 0
    end: int = 0
    rows: Any = None
    fingerprint: str = ""

    def chunks(self, size: int | None = None) -> Iterator[tuple[str, int]]:
        """The text in pieces, each with its number of bytes that are not UTF-8. Pieces end at the end of a line if possible."""
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
                    if data.endswith(b"\r") and len(data) < left:
                        data += file.read(1)  # a line end of two bytes stays together
                    if not data:
                        raise DataError(f"[{self.path}] became shorter while being read: try again")
                    left -= len(data)
                    before = counter.count
                    text = counter.decode(data, final=left == 0)
                    yield text.replace("\r\n", "\n"), counter.count - before
        except OSError as error:
            raise DataError(f"[{self.path}] cannot be read: {error.strerror}") from None


class _Replacements:
    """A UTF-8 decoder that replaces invalid bytes by U+FFFD and counts them."""

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
class TextSplits:
    """Texts for training and for validation, with their tokenizer.

    Args:
        train, validation: disjoint texts.
        task: the task of both.
        notes: what a user should know about the texts, one sentence each.
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
    """Load and tokenize texts for training and validation.

    Args:
        source: "python" (the documentation and sources that come with the interpreter), "wikitext-2", "wikitext-103" (raw), a text file, or a
            folder of text files.
        vocabulary: the number of tokens of a vocabulary to train on the training text, or the path of a `vocab.txt`.
        unit: what separators divide: documents, or lines (the paper's sentences).
        validation: a separate source for validation. The default is the data set's own part, or else `share` of the documents (of a single file,
            its end).
        share: the held-out share, above 0 and below 1.
        seed: the seed of the choice of documents.

    Raises:
        DataError: a source cannot be used, or does not contain text.
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
    source: str, task: AnyTextTask, unit: Unit, validation: str | None = None, share: float = 0.05, seed: int = 0
) -> tuple[TextSet, list[str]]:
    """Only the validation text that `load_text` holds out, with a given tokenizer, and notes for the user."""
    _, held_out, notes = _divide(source, validation, share, seed)
    text, more = prepare_text(held_out, tokenizer_for(task), unit, validation or source)
    return text, notes + more


def load_text_for(
    source: str, task: AnyTextTask, validation: str | None = None, share: float = 0.05, seed: int = 0
) -> tuple[TextSet, TextSet, list[str]]:
    """The texts for training and validation that `load_text` makes, with a given tokenizer, and notes for the user."""
    train, held_out, notes = _divide(source, validation, share, seed)
    tokenizer = tokenizer_for(task)
    first, more = prepare_text(train, tokenizer, "document", source)
    second, others = prepare_text(held_out, tokenizer, "document", validation or source)
    return first, second, list(dict.fromkeys([*notes, *more, *others]))


def load_evaluation_text(
    source: str, task: AnyTextTask, unit: Unit = "document", part: str = "test"
) -> tuple[TextSet, list[str]]:
    """A whole source (or the `part` of a named data set) for evaluation, with notes for the user."""
    documents, notes = _documents(source, part)
    text, more = prepare_text(documents, tokenizer_for(task), unit, source)
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
        cut = _cut(documents[0], share)
        if cut is None:
            raise DataError(f"[{source}] is too short to hold out {share} of it: give --validation-data")
        return [replace(documents[0], end=cut)], [replace(documents[0], start=cut)], notes
    # By name, so that adding a document does not move others to the other part.
    rank = {d.name: zlib.crc32(f"{seed}:{d.name}".encode("utf-8", "backslashreplace")) for d in documents}
    held_out = [d for d in documents if rank[d.name] < share * 2**32]
    if not held_out:
        held_out = [min(documents, key=lambda d: rank[d.name])]
    chosen = {d.name for d in held_out}
    return [d for d in documents if d.name not in chosen], held_out, notes


def _cut(document: Document, share: float) -> int | None:
    """The start of the last `share` of a file: at the end of a near line, or else before a blank, or else between two characters."""
    assert document.path is not None
    cut = document.start + round((document.end - document.start) * (1 - share))
    try:
        with document.path.open("rb") as file:
            file.seek(cut)
            near = file.read(min(_CHUNK_BYTES, document.end - cut))
            found = near.find(b"\n") + 1
            if not 0 < found < document.end - cut:
                if b"\n" not in near and cut + len(near) < document.end:
                    cut += len(near)
                    near = file.read(min(_CHUNK_BYTES, document.end - cut))
                # A line end of old Macs, a blank, or a byte that begins a character.
                places = (
                    re.search(pattern, near) for pattern in (rb"(?<=\r)[^\n]", rb"[ \t]+[^ \t\r\n]", rb"[^\x80-\xbf]")
                )
                found = next((place.start() for place in places if place), len(near))
    except OSError as error:
        raise DataError(f"[{document.path}] cannot be read: {error.strerror}") from None
    cut += found
    return cut if document.start < cut < document.end and near[found:].strip() else None


def _documents(source: str, part: str) -> tuple[list[Document], list[str]]:
    """The documents of a source in a fixed order, and notes for the user."""
    if source == "python":
        folder = Path(sysconfig.get_paths()["stdlib"])
        files = [
            p
            for p in sorted(folder.rglob("*.py"))
            # Tests and installed packages differ between machines. Code pages are tables of numbers.
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
    if not path.is_file():  # it is read more than once, and waiting for its writer may never end
        raise DataError(f"[{source}] is a device or pipe: give a text file, or a folder of text files")
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
            f"[{source}] contains no text: "
            + (f"{binary[0].name} is binary; " if binary else "it is empty; " if files else "")
            + "give a text file, or a folder of text files"
        )
    notes = []
    if binary:
        notes.append(f"{source}: {len(binary)} binary files were skipped, the first is {binary[0].relative_to(folder)}")
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
            f"[{name}] cannot be loaded ({reason}): go online once to download it, or give text files with --data PATH"
        ) from None
    if "text" not in table.column_names:
        raise DataError(f"[{name}] has the columns {table.column_names}: needs 'text'")
    return Document(f"{name}/{part}", rows=table, fingerprint=f"{name}:{part}:{table._fingerprint}:{len(table)}")


def _train(documents: Sequence[Document], size: int, source: str) -> TextTask:
    """Train a vocabulary on evenly spread pieces of the documents. The same documents give the same vocabulary."""
    total = sum(d.end - d.start for d in documents) or 1
    keep = max(1, round(total / _VOCABULARY_BYTES))  # take every `step`-th piece

    def pieces() -> Iterator[str]:
        index, seen = 0, 0
        for document in documents:
            for text, _ in document.chunks(_VOCABULARY_CHUNK_BYTES):
                index += 1
                # Pieces of files are equally long. Rows are short, so they are taken until there is enough text.
                if document.path is None:
                    seen += len(text)
                    if seen > _VOCABULARY_BYTES:
                        return
                    yield text
                elif index % keep == 0 or keep == 1:
                    yield text

    key = digest([CACHE_FORMAT, size, [d.fingerprint for d in documents], [(d.start, d.end) for d in documents]])
    with contextlib.suppress(OSError, ValueError):  # there is no cached one, or it cannot be read or is damaged
        return TextTask.from_json(json.loads((cache_folder() / "vocabularies" / f"{key}.json").read_text("utf-8")))
    task = train_vocabulary(pieces(), size)
    # Without space or permission the next start is slower. A note about the tokens tells the user.
    with contextlib.suppress(OSError):
        cache = cache_folder() / "vocabularies"
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(cache / f"{key}.json", json.dumps(task.to_json()).encode())
    return task
