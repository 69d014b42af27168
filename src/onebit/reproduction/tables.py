"""The paper's tables 2 and 5, and the recipes of their networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onebit.errors import OnebitError


@dataclass(frozen=True, eq=False)
class Row:
    """One network of a table.

    Args:
        name: the name of its run folder.
        title: its name in the table.
        recipe: the name of a recipe in the package.
        changes: the keys of the recipe with other values in this row.
        paper: the paper's figures; empty for networks that the paper does not have.
        parameters: the paper's number of parameters; None if the paper does not give it.
    """

    name: str
    title: str
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)
    parameters: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Args:
        name: its name on the command line.
        number: its number in the paper.
        data: the paper's training data, in words.
        figures: the columns, by the name of the figure.
        rows: the paper's networks.
        best: the same one-bit networks with the settings that measured best here.
        fixed: the recipe keys in which the rows differ.
    """

    name: str
    number: int
    data: str
    figures: Mapping[str, str]
    rows: tuple[Row, ...]
    best: tuple[Row, ...]
    fixed: tuple[str, ...]

    def choose(self, recipes: str, names: Sequence[str] | None) -> tuple[Row, ...]:
        """The rows to train: the paper's, and ours after them with `recipes` "best"; or the named rows."""
        every = self.rows + self.best
        if names is None:
            return every if recipes == "best" else self.rows
        unknown = [name for name in names if name not in {row.name for row in every}]
        if unknown or not names:
            known = ", ".join(row.name for row in every)
            raise OnebitError(f"[reproduce] rows={','.join(names)}: {self.name} has {known}")
        return tuple(row for row in every if row.name in names)


_LOSSES = {"train_loss": "train loss", "val_loss": "val loss", "train_accuracy": "train acc", "val_accuracy": "val acc"}
_PERPLEXITIES = {"train_perplexity": "train ppl", "val_perplexity": "val ppl"}


def _paper(*figures: float) -> dict[str, float]:
    return dict(zip((*_LOSSES, *_PERPLEXITIES), figures, strict=False))


_IMAGES, _LARGER = "paper-food101-3x3", "paper-food101-5x5"
_TEXT = "paper-wikitext103"
TABLES: dict[str, PaperTable] = {
    table.name: table
    for table in (
        PaperTable(
            "table2",
            2,
            "Food-101",
            _LOSSES,
            (
                Row("standard-3x3", "standard 3x3", _IMAGES, {"binary": False}, _paper(0.0369, 1.37, 0.989, 0.703)),
                Row("binary-3x3", "binary 3x3", _IMAGES, {}, _paper(1.46, 1.55, 0.670, 0.637), "5,132,165"),
                Row("standard-5x5", "standard 5x5", _LARGER, {"binary": False}, _paper(0.0495, 1.48, 0.986, 0.679)),
                Row("binary-5x5", "binary 5x5", _LARGER, {}, _paper(0.836, 1.35, 0.834, 0.686), "13,505,925"),
            ),
            (
                Row("best-3x3", "best 3x3", "best-food101-3x3"),
                Row("best-5x5", "best 5x5", "best-food101-3x3", {"kernel_size": 5}),
            ),
            ("binary", "kernel_size"),
        ),
        PaperTable(
            "table5",
            5,
            "WikiText-103",
            {**_LOSSES, **_PERPLEXITIES},
            (
                Row("standard", "standard", f"{_TEXT}-twin", {}, _paper(1.35, 1.94, 0.726, 0.664, 3.98, 7.47)),
                Row(
                    "binary-small",
                    "binary small",
                    f"{_TEXT}-small",
                    {},
                    _paper(2.03, 1.99, 0.653, 0.659, 8.08, 7.92),
                    "154.4 M",
                ),
                Row(
                    "binary-large",
                    "binary large",
                    f"{_TEXT}-large",
                    {},
                    _paper(1.87, 1.91, 0.666, 0.666, 6.95, 7.47),
                    "332.8 M",
                ),
            ),
            (
                Row("best-small", "best small", "best-wikitext103-small"),
                Row("best-large", "best large", "best-wikitext103-small", {"size": "large"}),
            ),
            ("binary", "size"),
        ),
    )
}
