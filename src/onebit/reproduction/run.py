"""Train, pack and collect the rows of a table, each in its own run folder."""

from __future__ import annotations

import csv
import gc
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onebit.data.record import fingerprint_images, fingerprint_text
from onebit.errors import OnebitError
from onebit.images import SUFFIXES
from onebit.packing import pack
from onebit.paths import expand
from onebit.reproduction.report import Report, RowResult
from onebit.reproduction.scale import fit_to_data, scale_recipe
from onebit.reproduction.tables import TABLES, PaperTable, Row
from onebit.training import Recipe, TextRecipe, load_recipe, load_run, train
from onebit.training.lock import hold, is_empty
from onebit.training.run import write_json
from onebit.training.sources import check_out, check_same, locate


@dataclass(frozen=True)
class Settings:
    """The settings of a reproduced table. An output folder contains one table with one of these.

    Args:
        table: "table2" or "table5".
        scale: above 0, at most 1, where 1 is the paper; see `onebit.reproduction.scale`.
        data: a folder of images, a text file or folder, or the name of a data set. None takes the paper's data.
        paper_rate: keep the recipes' learning rates at small scales.
        keys: recipe keys for all rows.

    Raises:
        OnebitError: the table or the scale is not valid, or a key is one in which the rows differ.
    """

    table: str
    scale: float = 1.0
    data: str | None = None
    paper_rate: bool = False
    keys: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise OnebitError(f"[reproduce] {self.table}: use {' or '.join(TABLES)}")
        if not 0 < self.scale <= 1:
            raise OnebitError(f"[reproduce] scale={self.scale:g}: use a number above 0, at most 1 (the paper)")
        for key in TABLES[self.table].fixed:
            if key in self.keys:
                raise OnebitError(f"[reproduce] the rows of {self.table} differ in {key}: choose rows with --rows")

    @property
    def paper(self) -> PaperTable:
        """The table of the paper."""
        return TABLES[self.table]

    def recipe(self, row: Row) -> Recipe:
        """The recipe of a row, except for keys that depend on the amount of data.

        Raises:
            RecipeError: a key set by hand is unknown, or does not fit.
        """
        own_rate = self.paper_rate or row in self.paper.best  # it measured best unchanged
        recipe = scale_recipe(load_recipe(row.recipe).override(row.changes), self.scale, own_rate)
        if isinstance(recipe, TextRecipe):
            # The paper's networks also learned to predict padding.
            recipe = recipe.override({"count_padding": True})
        data = {} if self.data is None else {"data": self.data}
        changed = recipe.override(data | dict(self.keys), "reproduce")
        if recipe.schedule.decay is None or recipe.schedule.unit == "step" or "decay" in self.keys:
            return changed
        # The learning rate falls by the same amount in the given number of epochs.
        return changed.override(
            {"decay": math.ceil(recipe.schedule.decay * changed.schedule.epochs / recipe.schedule.epochs)}
        )


def reproduce(
    settings: Settings,
    out: str | Path,
    recipes: str = "paper",
    rows: Sequence[str] | None = None,
    resume: bool = False,
    threads: int | None = None,
    progress: bool = True,
) -> Report:
    """Train, pack and measure the rows of a table, one after another. The report is written again after each row.

    Args:
        settings: the settings of the table.
        out: the output folder. It gets a run folder and a .onebit file per row, reproduction.json, and the report as TABLE.md, TABLE.json and
            TABLE.png.
        recipes: "paper", or "best" to add rows with our best settings.
        rows: the names of the rows to train; None for all.
        resume: skip finished rows, and continue an unfinished one.
        threads: threads of PyTorch; None for one per core.
        progress: whether to print progress to standard error.

    Returns:
        The report of all rows in the folder.

    Raises:
        OnebitError: the folder has other contents or is in use, a row is unknown, or training stops.
        DataError: the data cannot be loaded, or have the wrong kind.
        KeyboardInterrupt: at Ctrl-C. Finished epochs and rows are kept.
    """
    out = expand(out)
    chosen = settings.paper.choose(recipes, rows)
    scaled = {row: locate(settings.recipe(row)) for row in chosen}
    for recipe in scaled.values():
        check_out(recipe, out, "reproduce")
    with hold(out, "reproduce"):
        _check_folder(out, settings, resume)
        _check_kind(settings)
        # Check that each row has what it needs before writing anything.
        fitted = {
            row: fit_to_data(recipe, settings.scale).override({"threads": threads}) for row, recipe in scaled.items()
        }
        for row, recipe in fitted.items():
            for other in {recipe.teacher.run, recipe.model.warm_start} - {None}:
                load_run(str(other))  # raises if it is not a run
            if not (out / row.name / "recipe.yaml").exists():
                continue
            known = load_recipe(out / row.name / "recipe.yaml")
            check_same(known, recipe, out / row.name, ("threads",), "reproduce")
        write_json(out / "reproduction.json", _settings_of(settings))
        for number, (row, recipe) in enumerate(fitted.items(), 1):
            folder = out / row.name
            if not (folder / "result.json").exists():
                if progress:
                    print(f"row {number} of {len(fitted)}: {row.title}", file=sys.stderr)
                run = train(recipe, folder, (folder / "recipe.yaml").exists(), progress)
                pack(run.model, out / f"{row.name}.onebit", run.task, run.training)
                del run
                gc.collect()  # reference cycles in Lightning keep the network, its latent weights and its optimizer: the next row needs their memory
            elif progress:
                print(f"row {number} of {len(fitted)}: {row.title}, finished before", file=sys.stderr)
            report = collect(settings, out)
            report.write(out)
        return report


def collect(settings: Settings, out: Path) -> Report:
    """The report of all finished rows in a folder."""
    table = settings.paper
    rows = (row for row in (*table.rows, *table.best) if (out / row.name / "result.json").exists())
    return Report(
        table,
        settings.scale,
        settings.data,
        settings.paper_rate,
        dict(settings.keys),
        tuple(_measure(row, out) for row in rows),
    )


def _measure(row: Row, out: Path) -> RowResult:
    """The figures of a finished row from its run folder. The network is packed again if its file is missing."""
    folder, file = out / row.name, out / f"{row.name}.onebit"
    if not file.exists():
        run = load_run(folder)
        pack(run.model, file, run.task, run.training)
    recipe = load_recipe(folder / "recipe.yaml")
    result = json.loads((folder / "result.json").read_text())
    with (folder / "curves.csv").open(newline="") as curves:
        epochs = [{key: float(value) for key, value in epoch.items()} for epoch in csv.DictReader(curves)]
    last = next(epoch for epoch in epochs if epoch["epoch"] == result["chosen_epoch"])
    figures = {"train_loss": last["train_loss"], "train_accuracy": last["train_accuracy"]}
    honest: dict[str, Any] = {}
    if isinstance(recipe, TextRecipe):
        padded = result["validation_padded_perplexity_not_comparable"]
        figures |= {
            "val_loss": math.log(padded),
            "val_accuracy": result["validation_padded_accuracy_not_comparable"],
            "train_perplexity": math.exp(min(700, last["train_loss"])),
            "val_perplexity": padded,
        }
        honest = {
            key: result[f"validation_{key}"]
            for key in ("loss", "accuracy", "perplexity", "bits_per_byte", "tokens", "tokenizer", "context")
        }
        examples = recipe.optimizer.batch_size * recipe.optimizer.accumulate * int(epochs[0]["step"])
    else:
        figures |= {"val_loss": result["test_loss"], "val_accuracy": result["test_accuracy"]}
        examples = result["train_images"]
    return RowResult(
        row,
        recipe,
        figures,
        honest,
        parameters=result["parameters"],
        packed_bytes=file.stat().st_size,
        examples=examples,
        validated=result.get("test_images"),
        epochs=result["epochs"],
        chosen_epoch=result["chosen_epoch"],
        seconds=round(sum(epoch["seconds"] for epoch in epochs), 1),
    )


def _check_folder(out: Path, settings: Settings, resume: bool) -> None:
    """Check that a folder is empty, or that its settings are the same if the run resumes."""
    file = out / "reproduction.json"
    if not file.is_file():
        if resume:
            raise OnebitError(f"[reproduce] {out} has no table to continue: leave --resume out")
        if not is_empty(out):
            raise OnebitError(f"[reproduce] {out} is not empty: give another --out")
        return
    if not resume:
        raise OnebitError(f"[reproduce] {out} has a table: continue with --resume, or give another --out")
    try:
        known = json.loads(file.read_text())
    except ValueError as error:
        raise OnebitError(f"[{file}] damaged: {error}") from None
    asked = json.loads(json.dumps(_settings_of(settings)))
    fingerprint = asked.pop("data_fingerprint")
    # The same data may have been moved. A folder from an older onebit has their path as the user wrote it.
    same = (
        known.get("data_fingerprint") == fingerprint
        if "data_fingerprint" in known
        else known.get("data") == settings.data
    )
    for key, value in asked.items():
        moved = key == "data" and same and fingerprint is not None
        if known.get(key) != value and not moved:
            raise OnebitError(
                f"[reproduce] {out} was started with {key}={known.get(key)}, not {value}: resume with the same value, or give another --out"
            )


def _settings_of(settings: Settings) -> dict[str, Any]:
    """The settings as a folder keeps them, with the absolute path of local data and their fingerprint."""
    data, known = settings.data, None
    if data is not None:
        known = fingerprint_text(data) if settings.table == "table5" else fingerprint_images(data)
        if expand(data).exists():
            data = str(expand(data).resolve())
    return asdict(settings) | {"data": data, "data_fingerprint": known}


def _check_kind(settings: Settings) -> None:
    """Refuse a folder of images as a text: only a readme in it would be read."""
    if settings.table != "table5" or settings.data is None:
        return
    path = expand(settings.data)
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        if sum(file.suffix.lower() in SUFFIXES for file in files) > len(files) / 2:
            raise OnebitError(f"[reproduce] {path} contains images: table5 needs a text file or a folder of text files")
