"""Accuracy of binary networks of sensors' measurements and of their float twins, on published data sets.

    python benchmarks/series_tasks.py --data sktime/datasets/data --out runs/series [--seeds 0 1 2]

DATA is the folder of sktime's package that holds BasicMotions (a wrist's accelerations and turns), GunPoint (a hand's way) and Tecator (the
absorption of meat at 100 wavelengths, and its fat). Their files (.ts) are written as CSV files first: classes as folders, numbers as a column. The
parts for training and tests are the published ones. Networks that were trained before are not trained again. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from measure import mean_and_spread

import onebit
from onebit.training import load_recipe, load_run, train

COMMON: dict[str, Any] = {"validation_share": 0.0, "threads": 1, "epochs": 60, "batch_size": 16, "precision": "float32"}
# Of each data set: what is said, rows of a window, and the recordings' length.
SETS: dict[str, dict[str, Any]] = {
    "BasicMotions": {"task": "classification", "length": 100},
    "GunPoint": {"task": "classification", "length": 150},
    "Tecator": {"task": "regression", "target": "target", "length": 100},
}
FLOAT_RATE = 1e-3


def read_ts(path: Path) -> list[tuple[list[list[float]], str]]:
    """The recordings of a file in the form of sktime: rows of numbers for each column, and what each recording is."""
    lines = path.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().lower() == "@data") + 1
    found = []
    for line in lines[start:]:
        if line.strip():
            *columns, said = line.strip().split(":")
            found.append(([[float(x) for x in column.split(",")] for column in columns], said))
    return found


def write_csv(source: Path, name: str, out: Path) -> Path:
    """A data set as folders of CSV files, unless it is there."""
    folder = out / "data" / name
    if folder.exists():
        return folder
    numbers = SETS[name]["task"] == "regression"
    for part in ("train", "test"):
        for i, (columns, said) in enumerate(read_ts(source / name / f"{name}_{part.upper()}.ts")):
            path = folder / part / ("." if numbers else said) / f"{i:04}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow([f"x{k}" for k in range(len(columns))] + (["target"] if numbers else []))
                rows.writerows([*row, *([said] if numbers else [])] for row in zip(*columns, strict=True))
    return folder


def measured(name: str, data: Path, binary: bool, seed: int, out: Path) -> dict[str, Any]:
    """Train a network unless it is done, pack it, and measure the packed file where it is binary."""
    folder = out / f"{name}-{'binary' if binary else 'float'}-{seed}"
    if not (folder / "result.json").exists():
        keys = {**COMMON, **SETS[name], "data": str(data), "seed": seed, "binary": binary}
        recipe = load_recipe("series").override(keys if binary else {**keys, "learning_rate": FLOAT_RATE})
        train(recipe, folder, progress=False)
    run = load_run(folder)
    file = folder.with_suffix(".onebit")
    onebit.pack(run.model, file, run.task, run.training)
    figures = onebit.evaluate(file if binary else folder, str(data)).figures
    return {"name": name, "binary": binary, "seed": seed, "file_bytes": file.stat().st_size, **_plain(figures)}


def _plain(figures: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in figures.items() if isinstance(value, float)}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, seeds together."""
    lines = ["| data | network | seeds | figure on the test part | file, bytes |", "| --- | --- | --- | --- | --- |"]
    for name in SETS:
        for binary in (True, False):
            own = [row for row in rows if (row["name"], row["binary"]) == (name, binary)]
            if not own:
                continue
            if "accuracy" in own[0]:
                figure = f"accuracy {mean_and_spread([100 * row['accuracy'] for row in own])} %"
            else:
                errors = mean_and_spread([row["mean_absolute_error"] for row in own], 2)
                figure = f"mean absolute error {errors}, R2 {mean_and_spread([row['r2'] for row in own], 3)}"
            network = "1-bit weights, engine int8" if binary else "float twin"
            lines.append(f"| {name} | {network} | {len(own)} | {figure} | {own[0]['file_bytes']:,} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="sktime's folder datasets/data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows = []
    for name in SETS:
        data = write_csv(arguments.data, name, arguments.out)
        for binary in (True, False):
            for seed in arguments.seeds:
                rows.append(measured(name, data, binary, seed, arguments.out))
                print(json.dumps(rows[-1]), flush=True)
    (arguments.out / "series.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
