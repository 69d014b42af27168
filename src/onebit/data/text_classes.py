"""Texts and their classes for training and for measuring: CSV files, folders of text files, or a data set by its name."""

from __future__ import annotations

import ast
import csv
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.answer_metrics import LabelMetrics
from onebit.data.arrays import ArraySet, ArraySplits, divide
from onebit.data.load import TEST_SHARE
from onebit.errors import DataError, shown
from onebit.paths import expand
from onebit.printable import printable
from onebit.text import TextTask, Tokenizer, train_vocabulary
from onebit.walk import walk

SETS = ("code-or-prose",)
SUFFIXES = (".csv", ".txt")
# A paragraph that is shorter says little.
LEAST_CHARACTERS = 40
# Modules of Python's own, whose functions are code and whose documentation is prose.
MODULES = ("argparse", "ast", "calendar", "csv", "datetime", "decimal", "difflib", "doctest", "fractions", "inspect", "logging", "mailbox",
           "optparse", "pathlib", "pdb", "pickle", "random", "shutil", "smtplib", "socket", "statistics", "subprocess", "tarfile", "textwrap",
           "threading", "trace", "turtle", "typing", "unittest.case", "unittest.mock", "urllib.request", "zipfile")  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How texts stand in files: see `TextClassification`."""

    text_column: str
    label_column: str
    unit: str


Labelled = list[tuple[str, str]]


def load_texts(data: str, form: Form) -> Labelled:
    """Texts and their classes, in the order of the files; raises DataError, which names the file and the line.

    Args:
        data: "code-or-prose", a CSV file, or a folder with a folder of text files (or one text file) for each class.
        form: the names of columns, and what of a text file is one text.
    """
    if data in SETS:
        return _code_or_prose()
    source = expand(data)
    if not source.exists():
        raise DataError(
            f"[{printable(data)}] is not there: give a CSV file, a folder of text files for each class, or {', '.join(SETS)}"
        )
    if source.is_file():
        found = _of_csv(source, form)
    else:
        found = []
        for file in (file for file in walk(source).files if file.suffix.lower() == ".txt"):
            place = file.relative_to(source)
            label = place.parts[0] if len(place.parts) > 1 else place.stem
            found += [(text, label) for text in _texts_of(file, form.unit)]
        if not found:
            raise DataError(
                f"[{printable(data)}] has no text in files that end in .txt, a folder of them for each class"
            )
    if len({label for _, label in found}) < 2:
        raise DataError(f"[{printable(data)}] has one class alone, {shown(found[0][1])}: needs two or more")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"[{printable(path)}] is not text in UTF-8") from None
    except OSError as error:
        raise DataError(f"[{printable(path)}] cannot be read: {error.strerror}") from None


def _texts_of(path: Path, unit: str) -> list[str]:
    text = _read(path)
    if unit == "file":
        return [text] if text.strip() else []
    return [" ".join(part.split()) for part in text.split("\n\n") if len(part.strip()) >= LEAST_CHARACTERS]


def _of_csv(path: Path, form: Form) -> Labelled:
    where = printable(path)
    rows = csv.reader(_read(path).splitlines(keepends=True))
    found: Labelled = []
    try:
        header = [name.strip() for name in next(rows, [])]
        for name in (form.text_column, form.label_column):
            if name not in header:
                has = ", ".join(map(shown, header)) or "nothing"
                raise DataError(
                    f"[{where}] has no column {shown(name)}: it has {has}; name the columns with --text-column and --label-column"
                )
        text, label = header.index(form.text_column), header.index(form.label_column)
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"[{where}] line {rows.line_num} has {len(cells)} cells: needs {len(header)}, as its first line has"
                )
            if not cells[text].strip() or not cells[label].strip():
                raise DataError(f"[{where}] line {rows.line_num} has an empty text or label: fill or remove it")
            found.append((cells[text], cells[label].strip()))
    except csv.Error as error:
        raise DataError(f"[{where}] line {rows.line_num} is not CSV: {error}") from None
    if not found:
        raise DataError(f"[{where}] has no row with a text")
    return found


def _code_or_prose() -> Labelled:
    """Functions of Python's own modules without their documentation, and paragraphs of that documentation."""
    found: Labelled = []
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        source = Path(spec.origin).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                continue
            for part in (ast.get_docstring(node) or "").split("\n\n"):
                if ">>>" not in part and len(part) >= LEAST_CHARACTERS:
                    found.append((" ".join(part.split()), "prose"))
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                code = " ".join("\n".join(ast.unparse(one) for one in body[:3]).split())
                if len(code) >= LEAST_CHARACTERS:
                    found.append((code, "code"))
    if not found:
        raise DataError(f"[code-or-prose] Python {sys.version.split()[0]} has no sources here: give data of your own")
    return found


def task_vocabulary(texts: Sequence[str], size: int) -> str:
    """The tokens that are made of texts, a line each."""
    return "\n".join(train_vocabulary(texts, size).vocabulary)


def tokenizer_of(vocabulary: str) -> Tokenizer:
    """The tokenizer of a task."""
    return Tokenizer(TextTask(tuple(vocabulary.split("\n"))))


def arrays_of(found: Labelled, labels: Sequence[str], tokenizer: Tokenizer, context: int, source: str) -> ArraySet:
    """Texts as tokens (n, context), padded after their ends; targets (n, 2): the class, and the place of the last token.

    Raises:
        DataError: a class is not among the labels.
    """
    unknown = next((label for _, label in found if label not in labels), None)
    if unknown is not None:
        raise DataError(
            f"[{printable(source)}] has the class {shown(unknown)}, which the network does not know: it has {', '.join(map(shown, labels))}"
        )
    inputs = np.full((len(found), context), tokenizer.pad, np.int64)
    targets = np.zeros((len(found), 2), np.int64)
    cut = 0
    for i, (ids, (_, label)) in enumerate(zip(tokenizer.arrays([text for text, _ in found]), found, strict=True)):
        cut += len(ids) > context
        ids = ids[:context] if len(ids) else np.array([tokenizer.separator])
        inputs[i, : len(ids)] = ids
        targets[i] = labels.index(label), len(ids) - 1
    notes = (
        (f"{source}: {cut} of {len(found)} texts are longer than {context} tokens; only their beginning is read",)
        if cut
        else ()
    )
    return ArraySet(inputs, targets, notes=notes)


def split_texts(found: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """What is trained on, and what is for tests: a fifth of each class."""
    rest, test = divide([label for _, label in found], TEST_SHARE, seed)
    return [found[i] for i in rest], [found[i] for i in test]


def splits_of(train: ArraySet, test: ArraySet, validation_share: float, seed: int, source: str) -> ArraySplits:
    """The parts, with some of the training texts set aside to choose the best epoch."""
    validation = test
    if validation_share:
        rest, chosen = divide(train.targets[:, 0].tolist(), validation_share, seed + 1)
        train, validation = train.take(rest), train.take(chosen)
    return ArraySplits(train, validation, test, source, train.notes)


class TextMetrics(LabelMetrics):
    """The figures of a classifier that is read at each text's last token."""

    def add(self, outputs: NDArray[np.float32], answers: Any, groups: Sequence[str] | None = None) -> None:
        """Add logits (n, context, classes), and classes and places of the last tokens (n, 2)."""
        right = np.asarray(answers)
        super().add(outputs[np.arange(len(right)), right[:, 1]], right[:, 0])
