"""Study the gap to float networks: change one factor of the paper's recipe at a time, then combine the best, with three seeds each.

    python benchmarks/accuracy_study.py images --data cifar-10-images --out runs/accuracy
    python benchmarks/accuracy_study.py text --data books-train.txt --validation books-valid.txt --out runs/accuracy
    python benchmarks/accuracy_study.py resnet18 --data cifar-10-images --out runs/accuracy --compile [--small]

src/onebit/recipes/studies/NAME.yaml has the rows, as keys over the study's recipe or over one of their own. Each training is its own process
(`onebit train ...`, one thread) and logs to OUT/NAME/ROW-seedN.log. A restarted study skips or resumes it. All finished runs are written to
OUT/NAME.json, OUT/NAME.png and a Markdown table. A study that needs a large GPU has a form for two cores (--small), NAME-small in these names.
--known FILE adds runs from elsewhere: benchmarks/results/accuracy/NAME.json has those of docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import statistics
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from measure import mean_and_spread, train_run

# The figure of a row: the key of its result, a factor to make it readable, its unit, and the column of its curves.
JUDGED = {
    "images": ("test_accuracy", 100.0, "test accuracy, %", "val_accuracy"),
    "text": ("validation_bits_per_byte", 1.0, "bits per byte", "val_bits_per_byte"),
    "resnet18": ("test_accuracy", 100.0, "test accuracy, %", "val_accuracy"),
    "overfitting": ("test_accuracy", 100.0, "test accuracy, %", "val_accuracy"),
}
ALL_ROWS = "all rows"  # of a study's small form: the keys of every row
REFERENCES = "row:"  # a value with this beginning is the run folder of another row with the same seed


def read_study(name: str) -> dict[str, Any]:
    """The recipe, the keys of every row, and the rows of a study."""
    text = (resources.files("onebit") / "recipes" / "studies" / f"{name}.yaml").read_text("utf-8")
    study: dict[str, Any] = yaml.safe_load(text)
    return study


def small_form(study: dict[str, Any]) -> dict[str, Any]:
    """The study with the keys of its form for two cores; a row that they do not suit has keys of its own there."""
    small = study.get("small")
    if small is None:
        raise SystemExit("this study has no small form: leave --small out")
    rows = {row: keys | small[ALL_ROWS] | small.get(row, {}) for row, keys in study["rows"].items()}
    return study | {"rows": rows}


def folder(row: str, seed: int) -> str:
    """Of a run."""
    return "-".join("".join(c if c.isalnum() or c in "+-" else " " for c in row).split()) + f"-seed{seed}"


def command(study: dict[str, Any], row: str, seed: int, arguments: argparse.Namespace, base: Path) -> list[str]:
    """The training's command line."""
    keys = study["keys"] | study["rows"][row]
    recipe = keys.pop("recipe", study["recipe"])
    words = [sys.executable, "-m", "onebit", "train", recipe, "--data", arguments.data]
    words += ["--out", str(base / folder(row, seed)), "--seed", str(seed), "--threads", "1"]
    if arguments.validation:
        words += ["--validation-data", arguments.validation]
    if arguments.compile:
        words += ["--compile", "true"]
    for key, value in keys.items():
        if str(value).startswith(REFERENCES):
            value = base / folder(value.removeprefix(REFERENCES), seed)
        plain = value if isinstance(value, str | Path) else json.dumps(value)
        words += [f"--{key.replace('_', '-')}", str(plain)]
    return words


def chosen_rows(study: dict[str, Any], pattern: str) -> list[str]:
    """The rows with a name that matches a regular expression, in the study's order, with the rows that they start from."""
    chosen = {row for row in study["rows"] if re.search(pattern, row)}
    for row in reversed(list(study["rows"])):  # a row starts only from rows before it
        if row in chosen:
            values = [str(value) for value in study["rows"][row].values()]
            chosen |= {value.removeprefix(REFERENCES) for value in values if value.startswith(REFERENCES)}
    return [row for row in study["rows"] if row in chosen]


def train_all(study: dict[str, Any], arguments: argparse.Namespace, base: Path) -> None:
    """Train every row with every seed, several at a time. A row that needs another row's run waits for it."""
    started: dict[str, Future[None]] = {}

    def job(row: str, seed: int) -> None:
        for value in study["rows"][row].values():
            if str(value).startswith(REFERENCES):
                started[folder(value.removeprefix(REFERENCES), seed)].result()
        out = base / folder(row, seed)
        train_run(out.name, command(study, row, seed, arguments, base), out)

    with ThreadPoolExecutor(arguments.parallel) as pool:
        for seed in arguments.seeds:
            for row in chosen_rows(study, arguments.rows):
                started[folder(row, seed)] = pool.submit(job, row, seed)


def measure(out: Path, column: str) -> dict[str, Any]:
    """A finished run's result, with the bytes of its packed file and the figures of the curves per epoch."""
    known = out.with_suffix(".json")
    if not known.exists():
        file = out.with_suffix(".onebit")
        packing = [sys.executable, "-m", "onebit", "pack", str(out), "--out", str(file)]
        subprocess.run(packing, capture_output=True, check=True)
        result = json.loads((out / "result.json").read_text())
        known.write_text(json.dumps(result | {"file_bytes": file.stat().st_size}, indent=1))
        file.unlink()
    row: dict[str, Any] = json.loads(known.read_text())
    with (out / "curves.csv").open(newline="") as curves:
        lines = list(csv.DictReader(curves))
    row["curve"] = [float(line[column]) for line in lines]
    row["training_accuracy"] = [float(line["train_accuracy"]) for line in lines]
    return row


def ended_runs(study: dict[str, Any], seeds: list[int], base: Path, known: Path | None, column: str) -> dict[str, Any]:
    """The results of each row's finished runs, here or in a file, in the order of their seeds."""
    elsewhere = {} if known is None else json.loads(known.read_text())
    rows = {}
    for row in study["rows"]:
        runs = {run["seed"]: run for run in elsewhere.get(row, []) if run["seed"] in seeds}
        outs = {seed: base / folder(row, seed) for seed in seeds}
        runs |= {seed: measure(out, column) for seed, out in outs.items() if (out / "result.json").exists()}
        if runs:
            rows[row] = [runs[seed] for seed in sorted(runs)]
    return rows


def diverged(log: Path) -> bool:
    """Whether a run stopped because a loss or a latent weight was NaN or infinite."""
    return log.exists() and "use a lower learning_rate" in log.read_text()


def table(name: str, references: dict[str, str], rows: dict[str, list[dict[str, Any]]]) -> str:
    """The study as Markdown: mean over seeds, their spread, and the difference from the reference rows.

    Args:
        name: the name of the study.
        references: for the title of a column, the row that it compares with. A column with "bytes" in its title is empty for a file that is more
            than 1.5 times as large as that row's.
        rows: the results of each row's runs.
    """
    key, factor, unit, _ = JUDGED[name]
    digits = 3 if name == "text" else 1
    means = {row: factor * statistics.mean(run[key] for run in runs) for row, runs in rows.items()}
    sizes = {row: statistics.mean(run["file_bytes"] for run in runs) for row, runs in rows.items()}
    compared = {title: row for title, row in references.items() if row in rows}
    titles = ["row", "seeds", unit, *(f"minus {title}" for title in compared)]
    if name == "text":
        titles += [f"perplexity over {title}" for title in compared if "bytes" not in title]
    if name == "overfitting":
        titles += [
            "training accuracy, last epoch, %",
            "validation accuracy, last epoch, %",
            "training minus validation",
        ]
    lines = [f"| {' | '.join([*titles, 'file, bytes', 'training, s'])} |", "| --- " * (len(titles) + 2) + "|"]
    for row, runs in rows.items():
        cells = [row, str(len(runs)), mean_and_spread([factor * run[key] for run in runs], digits)]
        for title, other in compared.items():
            larger = "bytes" in title and sizes[row] > 1.5 * sizes[other]
            cells.append("" if larger else f"{means[row] - means[other]:+.{digits}f}")
        if name == "text":
            losses = {r: statistics.mean(run["validation_loss"] for run in rows[r]) for r in (row, *compared.values())}
            cells += [
                f"{math.exp(losses[row] - losses[other]):.3f}"
                for title, other in compared.items()
                if "bytes" not in title
            ]
        if name == "overfitting":
            ends = [100 * statistics.mean(run[k][-1] for run in runs) for k in ("training_accuracy", "curve")]
            cells += [f"{end:.1f}" for end in ends] + [f"{ends[0] - ends[1]:+.1f}"]
        cells += [f"{sizes[row]:,.0f}", f"{statistics.mean(run['seconds'] for run in runs):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(name: str, rows: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """The validation figure of every row over the epochs, mean over seeds. Float rows are dashed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, factor, unit, _ = JUDGED[name]
    figure, axis = plt.subplots(figsize=(11, 8), layout="constrained")
    few = len(rows) <= 10
    colours = plt.get_cmap("tab10" if few else "nipy_spectral")
    for index, (row, runs) in enumerate(rows.items()):
        curves = [run["curve"] for run in runs if run["curve"]]
        if curves:
            means = [factor * statistics.mean(values) for values in zip(*curves, strict=True)]
            style = "--" if row.startswith("float") else "-"
            epochs = range(1, len(means) + 1)
            colour = colours(index if few else index / len(rows))
            axis.plot(epochs, means, style, color=colour, label=row, linewidth=1.2)
            if name == "overfitting":
                trained = zip(*(run["training_accuracy"] for run in runs), strict=True)
                axis.plot(epochs, [factor * statistics.mean(values) for values in trained], ":", color=colour)
    dotted = " (dotted: training)" if name == "overfitting" else ""
    axis.set(xlabel="epoch", ylabel=f"validation{dotted}: {unit.replace('test ', '')}")
    axis.grid(alpha=0.3)
    # The legend has the order of the lines' ends, so that it is easy to match them.
    named = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    lines = sorted(named, key=lambda line: -float(line.get_ydata()[-1]))
    axis.legend(handles=lines, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=JUDGED)
    parser.add_argument("--data", required=True, help="a folder with train/ and test/, or a text")
    parser.add_argument("--validation", help="a text to validate on")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rows", default="", metavar="PATTERN", help="train only rows with names that match this, such as '^best'"
    )
    parser.add_argument("--known", type=Path, metavar="FILE", help="a NAME.json with runs from elsewhere")
    parser.add_argument("--table-only", action="store_true", help="of the runs that have ended")
    parser.add_argument("--small", action="store_true", help="the study's form for two cores")
    parser.add_argument("--compile", action="store_true", help="train compiled")
    arguments = parser.parse_args()
    study = read_study(arguments.study)
    study = small_form(study) if arguments.small else study
    name = f"{arguments.study}-small" if arguments.small else arguments.study
    base = arguments.out / name
    base.mkdir(parents=True, exist_ok=True)
    if not arguments.table_only:
        train_all(study, arguments, base)
    rows = ended_runs(study, arguments.seeds, base, arguments.known, JUDGED[arguments.study][3])
    wrong = sum(diverged(log) for log in base.glob("*.log"))
    (arguments.out / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(arguments.study, study["references"], rows))
    print(f"{sum(len(runs) for runs in rows.values())} runs ended, {wrong} diverged")
    draw(arguments.study, rows, arguments.out / f"{name}.png")


if __name__ == "__main__":
    main()
