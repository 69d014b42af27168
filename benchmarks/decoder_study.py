"""Study decoders of bits and their float twins: one thing at a time over the form `best`.

    python benchmarks/decoder_study.py --data books-train.txt --validation books-valid.txt --size tiny --out runs/decoders
    python benchmarks/decoder_study.py --data books-train.txt --validation books-valid.txt --size books --jobs 5 --out runs/decoders

src/onebit/recipes/studies/decoders.yaml has the rows. The size `books` is for an accelerator, which takes several rows at once (`--jobs`).
Each training is its own process and logs to OUT/SIZE/ROW-seedN.log. A restarted study skips what has ended and resumes the rest.
All finished runs are written to OUT/SIZE.json, a Markdown table, OUT/SIZE.png (curves) and OUT/SIZE-gaps.png (the gap over tokens and parameters).
`--known FILE` adds runs from elsewhere.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from accuracy_study import diverged, draw, ended_runs, table, train_all

JUDGED_AS = "text"


def read_study(size: str | None = None) -> dict[str, Any]:
    """The study as its file has it; with a size, as `accuracy_study` takes it: a recipe, the keys of every row, and the rows."""
    text = (resources.files("onebit") / "recipes" / "studies" / "decoders.yaml").read_text("utf-8")
    study: dict[str, Any] = yaml.safe_load(text)
    if size is None:
        return study
    own = study["sizes"][size]
    return {
        "recipe": own["recipe"],
        "keys": study["keys"] | own["keys"],
        "references": study["references"],
        "rows": {name: row_keys(row, own, own["keys"]["epochs"]) for name, row in study["rows"].items()},
        "curves": study["curves"],
    }


def row_keys(row: dict[str, Any], size: dict[str, Any], epochs: int) -> dict[str, Any]:
    """A row's keys of a recipe: learning rate, shape and length are those of the size."""
    rates = size["rates"]
    rate = rates["bits" if row.get("binary", True) else "floats"] * row.get("rate", 1.0)
    shape = size["shapes"][row["shape"]] if "shape" in row else {}
    length = {"epochs": round(epochs * row["length"])} if "length" in row else {}
    plain = {key: value for key, value in row.items() if key not in ("rate", "shape", "length")}
    return {"learning_rate": rate} | shape | length | plain


def gaps(names: list[str], rows: dict[str, Any], x: str) -> list[tuple[float, float]]:
    """A curve of the gap: a figure of the pair of rows, and bits per byte of bits minus those of floats, where both rows have ended."""
    points = []
    for name in names:
        pair = [rows.get(f"{kind} {name}".strip()) for kind in ("float", "best")]
        if all(pair):
            floats, bits = (statistics.mean(run["validation_bits_per_byte"] for run in runs) for runs in pair)
            points.append((pair[1][0][x], bits - floats))
    return points


def draw_gaps(curves: dict[str, list[tuple[float, float]]], file: Path) -> None:
    """Draw the curves of the gap side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(10, 3.8), layout="constrained", sharey=True)
    for axis, (name, points) in zip(axes, curves.items(), strict=True):
        axis.plot(*zip(*points, strict=True), "o-") if points else None
        axis.set(xscale="log", xlabel=name)
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("bits per byte: best minus float twin")
    axes[0].set_ylim(bottom=0)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def temperature_gain(out: Path, windows: int = 128) -> tuple[float, float, float]:
    """What a fitted temperature would give a finished run: it, and bits per byte without and with it, on windows that it was not fitted to."""
    import torch
    import torch.nn.functional as F

    from onebit.confidence import fit_temperature
    from onebit.data.text import load_text
    from onebit.training import load_run
    from onebit.training.windows import evaluation_examples

    run = load_run(out)
    data = run.recipe.data
    text = load_text(data.source, data.vocabulary, validation=data.validation_data).validation
    examples = evaluation_examples(text, run.task, run.model.context, data.examples)
    parts = []
    for first in (0, 1):  # of each pair of windows that lie side by side
        chosen = np.linspace(0, len(examples) - 2, windows).astype(int) + first
        inputs, targets = (torch.from_numpy(part) for part in examples.take(chosen[chosen < len(examples) - 1]))
        with torch.inference_mode():
            parts.append((run.model(inputs).flatten(0, 1), targets.flatten()))
    (logits, targets), (others, other_targets) = parts
    fitted = fit_temperature(logits.numpy(), targets.numpy())
    bits = [float(F.cross_entropy(others / t, other_targets)) / math.log(2) * text.tokens_per_byte for t in (1, fitted)]
    return fitted, bits[0], bits[1]


def pattern_of(names: str, rows: dict[str, Any], parser: argparse.ArgumentParser) -> str:
    """The regular expression of the rows that are named, or of all."""
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in rows:
            parser.error(f"--rows: there is no row {name!r}: use some of {', '.join(rows)}")
    return f"^({'|'.join(map(re.escape, chosen))})$" if chosen else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a text to train on")
    parser.add_argument("--validation", required=True, help="a text to validate on")
    parser.add_argument("--size", choices=read_study()["sizes"], default="tiny")
    parser.add_argument("--out", type=Path, default=Path("runs/decoders"))
    parser.add_argument("--jobs", type=int, default=1, dest="parallel", help="rows that train at once")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", default="", metavar="A,B", help="train only these")
    parser.add_argument("--known", type=Path, metavar="FILE", help="a SIZE.json with runs from elsewhere")
    parser.add_argument("--table-only", action="store_true", help="of the runs that have ended")
    parser.add_argument("--temperature", action="store_true", help="what a temperature would give to each run here")
    parser.set_defaults(compile=False)  # the recipes say it
    arguments = parser.parse_args()
    study = read_study(arguments.size)
    arguments.rows = pattern_of(arguments.rows, study["rows"], parser)
    base = arguments.out / arguments.size
    base.mkdir(parents=True, exist_ok=True)
    if not arguments.table_only:
        train_all(study, arguments, base)
    rows = ended_runs(study, arguments.seeds, base, arguments.known, "val_bits_per_byte")
    (arguments.out / f"{arguments.size}.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(JUDGED_AS, study["references"], rows))
    wrong = sum(diverged(log) for log in base.glob("*.log"))
    print(f"{sum(len(runs) for runs in rows.values())} runs ended, {wrong} diverged")
    draw(JUDGED_AS, rows, arguments.out / f"{arguments.size}.png")
    for out in sorted(base.glob("*-seed*/")) if arguments.temperature else ():
        if (out / "result.json").exists():
            fitted, before, after = temperature_gain(out)
            print(
                f"{out.name}: temperature {fitted:.3f}, bits per byte {before:.4f} without it and {after:.4f} with it"
            )
    figures = {"tokens": "train_tokens_seen_at_most", "parameters": "parameters"}
    curves = {name: gaps(names, rows, figures[name]) for name, names in study["curves"].items()}
    for name, points in curves.items():
        print(f"gap over {name}: " + ", ".join(f"{x:,} {gap:+.3f}" for x, gap in points))
    draw_gaps(curves, arguments.out / f"{arguments.size}-gaps.png")


if __name__ == "__main__":
    main()
