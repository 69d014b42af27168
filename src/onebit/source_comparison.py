"""Compare the logits of an imported model with those of its source in the source's own program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, ForeignModelError, OnebitError
from onebit.fileformat import load_model
from onebit.importing.run import locate
from onebit.importing.source_logits import load_source
from onebit.pretrained import find
from onebit.printable import printable
from onebit.runtime.session import Precision, load_text_session
from onebit.subwords import KIND

TOKENS = 128
# Inputs rounded to int8, in llama.cpp or here, and weights of 4 bits and more rounded to int8 change logits by 1 to 8 %; a wrong order of bits, of
# rows or of positions changes them by more than half.
TOLERANCE = 0.2
TEXT = (
    "The tides are the rise and fall of the sea, caused by the pull of the Moon and of the Sun on a turning Earth. Most coasts have two high tides "
    "and two low ones in a little more than a day. Where a bay is long and narrow, the water may rise by more than ten metres; in the middle of the "
    "ocean it rises by less than one. Sailors have kept tables of them for centuries: a harbour's tide depends on its shape as on the sky.\n\n"
    "In 1867 William Thomson built a machine of wheels and a single wire, which added ten waves and drew a year of tides in four hours. "
    "What would take a clerk months was done before lunch, and nobody had to check the sums.\n"
)


@dataclass(frozen=True)
class SourceComparison:
    """What `compare_with_source` found. `str` is two lines.

    Args:
        file, source: the imported file, and what it was imported from.
        program: what computed the source's logits.
        precision: of the engine.
        relative: the largest difference of a position: the root mean square over the vocabulary of the difference, over that of the source's
            logits, each less its mean, which no probability depends on.
        mean: the mean of all positions.
        equal: at how many positions the most probable token is the same.
        positions: how many were compared.
        tolerance: the largest `relative` that counts as the same model.
    """

    file: str
    source: str
    program: str
    precision: str
    relative: float
    mean: float
    equal: int
    positions: int
    tolerance: float

    @property
    def same(self) -> bool:
        """Whether the file computes what its source computes. False for NaN too."""
        return self.relative <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self) | {"same": self.same}

    def __str__(self) -> str:
        verdict = "the same" if self.same else f"NOT THE SAME: the limit is {self.tolerance:g} (--tolerance)"
        return (
            f"{printable(self.file)} at {self.precision} against {printable(self.source)} in {self.program}: {verdict}\n"
            f"  largest relative difference of the logits {self.relative:.1e}, mean {self.mean:.1e}; "
            f"the most probable token is the same at {self.equal} of {self.positions} positions"
        )


def compare_with_source(
    file: str | Path,
    source: str | Path,
    text: str | None = None,
    *,
    limit: int | None = None,
    precision: Precision = "float32",
    threads: int | None = None,
    tolerance: float = TOLERANCE,
) -> SourceComparison:
    """Compare the logits of an imported model with its source's after each token of a text.

    Args:
        file: the `.onebit` file.
        source: the GGUF file, the folder of safetensors, or the name on the Hugging Face Hub that it was imported from.
        text: the text; by default one of the library's own.
        limit: the most tokens of it, by default 128.
        precision: of the engine.
        threads: of the engine and of the source's program; one per core by default.
        tolerance: the largest relative difference that counts as the same model.

    Raises:
        OnebitError: the file or the source cannot be read, or they have different vocabularies; the source's program is not installed.
    """
    if limit is not None and limit < 1:
        raise OnebitError(f"[verify] limit={limit}: use 1 or more tokens")
    if not tolerance >= 0:
        raise OnebitError(f"[verify] tolerance={tolerance}: use a number from 0 up")
    path = locate(source)
    session = load_text_session(file, precision=precision, threads=threads)
    tokens = session.tokenizer.encode(TEXT if text is None else text)
    tokens = [*session.tokenizer.starts, *tokens][: min(limit or TOKENS, session.context)]
    if not tokens:
        raise DataError("[verify] the text is empty: give one of some words")
    opened = load_source(path, len(tokens), session.threads)
    theirs = opened.logits(tokens)
    if theirs.shape[1] != session.vocabulary:
        raise ForeignModelError(
            f"[{path}] has {theirs.shape[1]} tokens, {file} has {session.vocabulary}: give the model that the file was imported from"
        )
    differences, equal = _compare(session.logits(tokens), theirs)
    return SourceComparison(
        file=str(file),
        source=str(source),
        program=opened.program,
        precision=precision,
        relative=float(differences.max()),
        mean=float(differences.mean()),
        equal=equal,
        positions=len(tokens),
        tolerance=tolerance,
    )


def _compare(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
    """The relative difference of each position, and the number of those with the same most probable token."""
    wanted = theirs.astype(np.float64)
    apart = ours - wanted
    apart -= apart.mean(-1, keepdims=True)
    wanted -= wanted.mean(-1, keepdims=True)
    size = np.sqrt(np.square(wanted).mean(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        differences = np.sqrt(np.square(apart).mean(-1)) / size
    return differences, int((ours.argmax(-1) == theirs.argmax(-1)).sum())


def is_foreign(file: str | Path, source: Path) -> bool:
    """Whether a source is a model of another program, and not a run folder. A name on the Hub is one only for an imported file."""
    if source.is_dir():
        return (source / "config.json").is_file()
    return source.exists() or source.suffix == ".gguf" or load_model(find(file)).task["kind"] == KIND
