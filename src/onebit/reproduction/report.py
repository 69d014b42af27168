"""A reproduced table next to the paper's, as text, as Markdown, as JSON, and as a picture of the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit.figures import save
from onebit.fileformat import write_atomically
from onebit.plots import compare_figure
from onebit.reproduction.scale import LAW
from onebit.reproduction.tables import PaperTable, Row
from onebit.tables import lay_out
from onebit.training import ImageRecipe, Recipe, TextRecipe
from onebit.training.jobs import decoder_sizes_of
from onebit.training.run import write_json

Cells = list[list[str]]


@dataclass(frozen=True)
class RowResult:
    """A finished row.

    Args:
        row: the row of the table.
        recipe: the recipe that trained it.
        figures: the figures in the table's columns. For text, padding is counted.
        honest: for text, the figures on real tokens of the validation text; empty for images.
        parameters: the number of parameters of the network.
        packed_bytes: the size of the .onebit file.
        examples: the number of training images, or of sentences in an epoch.
        validated: the number of validation images; None for text.
        epochs, chosen_epoch: the number of epochs, and the epoch of the best network.
        seconds: the time of training, including validation.
    """

    row: Row
    recipe: Recipe
    figures: Mapping[str, float]
    honest: Mapping[str, Any]
    parameters: int
    packed_bytes: int
    examples: int
    validated: int | None
    epochs: int
    chosen_epoch: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """A reproduced table. `str` is the text that the command prints.

    Args:
        table: the table of the paper.
        scale, data, paper_rate, keys: see `Settings`.
        rows: the finished rows.
    """

    table: PaperTable
    scale: float
    data: str | None
    paper_rate: bool
    keys: Mapping[str, Any]
    rows: tuple[RowResult, ...]

    @property
    def title(self) -> str:
        """The table, its scale and its data."""
        scale = "the paper's size" if self.scale == 1 else f"scale {self.scale:g}"
        return f"Table {self.table.number} at {scale}, on {self.data_name} (the paper: {self.table.data})"

    @property
    def data_name(self) -> str:
        """The name of the training data, without its folder."""
        return self.table.data if self.data is None else Path(self.data).name or self.data

    def _parts(self) -> list[tuple[str, Cells]]:
        """Tables with the text above each. The first row is the heading."""
        text = "val_perplexity" in self.table.figures
        above = "Our figures, with the paper's in brackets"
        if text:
            above += "; padding is counted, as the paper's figures suggest, so compare them only with the paper's"
        figures = [["network", *self.table.figures.values()]]
        figures += [[r.row.title, *(_beside(r, key) for key in self.table.figures)] for r in self.rows]
        parts = [(above, figures)]
        if text:
            columns = {
                "loss": "val loss",
                "accuracy": "val acc",
                "perplexity": "val ppl",
                "bits_per_byte": "bits per byte",
                "tokens": "tokens",
            }
            honest = [["network", *columns.values()]]
            honest += [[r.row.title, *(_number(r.honest[key]) for key in columns)] for r in self.rows]
            parts.append(("The same networks on the validation text, without padding", honest))
        what = "sentences per epoch" if text else "training images"
        sizes = [
            [
                "network",
                "parameters",
                "the paper's",
                "bytes at float32",
                "bytes packed",
                what,
                "epochs",
                "of epoch",
                "seconds",
            ]
        ]
        for r in self.rows:
            counts = (f"{n:,}" for n in (4 * r.parameters, r.packed_bytes, r.examples, r.epochs, r.chosen_epoch))
            sizes.append([r.row.title, f"{r.parameters:,}", r.row.parameters or "-", *counts, f"{r.seconds:,.0f}"])
        return [*parts, ("What was trained", sizes)]

    def notes(self) -> list[str]:
        """What a reader should know about the figures, one or two sentences each."""
        notes = []
        if self.scale < 1:
            notes.append(f"Scale F = {self.scale:g}: {LAW[self.table.name]}. The paper has 1.")
            kept = (
                "Learning rates are the paper's."
                if self.paper_rate
                else "Learning rates are the paper's divided by F^2, up to 1e-3, as there are F^2 times its steps; --paper-rate keeps the paper's."
            )
            notes.append(kept)
        if self.data is not None:
            notes.append(
                f"Trained on {self.data_name}, not on the paper's {self.table.data}: compare the rows with each other, not with the paper's."
            )
        if self.keys:
            notes.append(
                "Set by hand: " + ", ".join(f"{key}={_plain(value)}" for key, value in self.keys.items()) + "."
            )
        notes += [f"{result.row.title}: {describe(result)}." for result in self.rows]
        if any(result.row in self.table.best for result in self.rows):
            notes.append(
                "Rows named best have the same shapes and this package's best settings. The paper does not have them."
            )
        return notes

    def __str__(self) -> str:
        lines = [self.title]
        for above, cells in self._parts():
            lines += ["", above, lay_out(cells, right=range(1, len(cells[0])))]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes())])

    def markdown(self) -> str:
        """The same as Markdown."""
        lines = [f"# {self.title}"]
        for above, cells in self._parts():
            head, *rows = (f"| {' | '.join(row)} |" for row in cells)
            lines += ["", f"{above}:", "", head, f"|{' --- |' * len(cells[0])}", *rows]
        picture = ["", f"![Curves of the rows]({self.table.name}.png)"]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes()), *picture, ""])

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, with figures as `ours` and `paper` (null if the paper has none)."""
        return {
            "table": self.table.name,
            "scale": self.scale,
            "data": self.data or self.table.data,
            "paper_data": self.table.data,
            "paper_rate": self.paper_rate,
            "keys": dict(self.keys),
            "notes": self.notes(),
            "rows": [
                {
                    "name": r.row.name,
                    "figures": {k: {"ours": v, "paper": r.row.paper.get(k)} for k, v in r.figures.items()},
                    "validation_padding_not_counted": dict(r.honest) or None,
                    "parameters": r.parameters,
                    "packed_bytes": r.packed_bytes,
                    "examples": r.examples,
                    "validated_images": r.validated,
                    "epochs": r.epochs,
                    "chosen_epoch": r.chosen_epoch,
                    "seconds": r.seconds,
                }
                for r in self.rows
            ],
        }

    def write(self, out: Path) -> None:
        """Write TABLE.md, TABLE.json and TABLE.png into a folder."""
        name = self.table.name
        write_json(out / f"{name}.json", self.to_json())
        write_atomically(out / f"{name}.md", self.markdown().encode())
        # Training curves of text show the loss that is minimised.
        note = "which counts padding" if any(r.honest for r in self.rows) else ""
        figure = compare_figure({r.row.title: out / r.row.name for r in self.rows}, self.title, note)
        save(figure, out / f"{name}.png")


def describe(result: RowResult) -> str:
    """A row's network and its training in one line."""
    recipe = result.recipe
    rate = f"{recipe.schedule.name} rate {recipe.optimizer.learning_rate:g}, batch {recipe.optimizer.batch_size}"
    if isinstance(recipe, TextRecipe):
        sizes = decoder_sizes_of(recipe)
        shape = f"{sizes['blocks']} blocks of {sizes['features']} features and {sizes['heads']} heads, dense layers of {_plain(sizes['head'])}"
        return f"{shape}, {result.honest['context']} tokens of context, {result.honest['tokenizer']}; {rate}"
    assert isinstance(recipe, ImageRecipe)
    widths = (
        recipe.model.widths if isinstance(recipe.model.widths, str) else f"of {_plain(recipe.model.widths)} channels"
    )
    side = "x".join(map(str, recipe.data.image_size or ()))
    return f"{side} pixels, blocks {widths}; {rate}; validated on {result.validated:,} images"


def _beside(result: RowResult, key: str) -> str:
    theirs = result.row.paper.get(key)
    return f"{_number(result.figures[key])} ({'-' if theirs is None else f'{theirs:#.3g}'})"


def _number(value: float) -> str:
    """A figure with three decimals or three digits, depending on its size. Counts are whole."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3g}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
