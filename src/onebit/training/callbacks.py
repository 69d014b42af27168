"""What happens around the epochs: curves to a file, a line of progress."""

from __future__ import annotations

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import lightning

from onebit.fileformat import write_atomically


class EpochTable:
    """A CSV file that grows by rows of an epoch, and is whole at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = []

    def resume(self, epochs: int) -> None:
        """Keep what the file holds of so many epochs; later ones are trained again."""
        if self._path.exists():
            with self._path.open(newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epochs]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Add rows, each with the key "epoch", and write the file anew."""
        self._rows += rows
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self._path, text.getvalue().encode())


class Curves(lightning.Callback):
    """Writes a row of curves.csv, and a line on standard error, after each epoch."""

    def __init__(self, path: Path, show: bool) -> None:
        self._table = EpochTable(path)
        self._show = show
        self._start = 0.0
        self._drawn = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._table.resume(trainer.current_epoch)
        self._start = time.monotonic()  # of an epoch that is resumed within, which does not start

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._start = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A few times a second at most, and never into a file or a pipe.
        if self._show and sys.stderr.isatty() and time.monotonic() - self._drawn > 0.2:
            self._drawn = time.monotonic()
            done = (batch_idx + 1) / pl_module.batches_per_epoch
            bar = "#" * int(30 * done)
            left = (time.monotonic() - self._start) * (1 / done - 1)
            epochs = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            sys.stderr.write(f"\r{epochs} [{bar:<30}] {100 * done:3.0f} % {left:4.0f} s left \x1b[K")
            sys.stderr.flush()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        seconds = time.monotonic() - self._start
        metrics = pl_module.epoch_metrics
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {key: f"{value:.6g}" for key, value in metrics.items()}
        row["seconds"] = f"{seconds:.2f}"
        if not trainer.is_global_zero:
            return
        self._table.add([row])
        if self._show:
            end = "\r" if sys.stderr.isatty() else ""
            clear = "\x1b[K" if sys.stderr.isatty() else ""
            sys.stderr.write(
                f"{end}epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: train {_figures(metrics, 'train')}, "
                f"validation {_figures(metrics, 'val')}, {seconds:.1f} s{clear}\n"
            )
            sys.stderr.flush()


def _figures(metrics: dict[str, float], part: str) -> str:
    """The figures of a part of an epoch in words."""
    own = {key.removeprefix(f"{part}_"): value for key, value in metrics.items() if key.startswith(f"{part}_")}
    words = [f"loss {own.pop('loss'):.4f}"] + (
        [f"accuracy {100 * own.pop('accuracy'):.1f} %"] if "accuracy" in own else []
    )
    return ", ".join([" ".join(words), *(f"{value:.3f} {name.replace('_', ' ')}" for name, value in own.items())])
