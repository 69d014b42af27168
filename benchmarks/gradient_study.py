"""Compare published ways to train bits with plain straight-through: on a toy whose best bits are known, on images and on text.

    python benchmarks/gradient_study.py toy
    python benchmarks/gradient_study.py images --data cifar-10-images
    python benchmarks/gradient_study.py text --data books-train.txt --validation books-valid.txt
    python benchmarks/gradient_study.py paper --data books-train.txt --validation books-valid.txt

src/onebit/recipes/studies/gradients-NAME.yaml has the rows, as keys over one recipe. All rows train in this process, one after the other, on one
thread. Each is packed, and the packed file is verified. A finished run is in OUT/NAME/ROW-seedN.json at once, and a restarted study skips it.
OUT/NAME.json has all of them; `--table-only` prints its table and trains nothing.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accuracy_study import chosen_rows, folder, read_study, table
from measure import mean_and_spread
from torch import Tensor

from onebit.nn import BinaryLinear
from onebit.packing import pack
from onebit.quantizers import IDENTITY, Sign
from onebit.schemes import Scheme, parse_estimator
from onebit.training import load_run, train
from onebit.training.latents import correct_latents, correction_strength, pull
from onebit.training.recipe import load_recipe
from onebit.verification import verify

KIND = {"images": "images", "text": "text", "paper": "text"}  # which figure judges a study
VERIFIED = {"images": 256, "text": 4}

# The toy: least squares with weights of -1 and +1, so few that all of them can be tried.
WEIGHTS, PROBLEMS, EXAMPLES, BATCH, STEPS, RATE = 12, 64, 64, 8, 400, 0.02
TOY_ROWS: dict[str, dict[str, Any]] = {
    "straight-through": {},
    "ReSTE": {"estimator": "ReSTE"},
    "EDE": {"estimator": "EDE"},
    "BinaryRelax": {"estimator": "BinaryRelax"},
    "BinaryRelax from floats": {"estimator": "BinaryRelax(first=0.02)"},
    "stochastic bits": {"estimator": "StochasticBits"},
    "CAGE": {"cage": 10.0},
    "pull (ProxQuant's regulariser)": {"pull": 1e-2},
}


def toy_losses(keys: Mapping[str, Any], seed: int) -> tuple[Tensor, Tensor]:
    """Train the bits of many small problems of least squares. The loss of the bits at the end, and that of the best bits, (problems) each."""
    torch.manual_seed(seed)
    mixing = torch.randn(WEIGHTS, WEIGHTS)
    x = (
        torch.randn(EXAMPLES, WEIGHTS) @ mixing / WEIGHTS**0.5
    )  # correlated, so that a bit's best value depends on the others
    y = x @ torch.randn(WEIGHTS, PROBLEMS)
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=WEIGHTS)))  # (bits, weights)
    best = torch.stack([(x @ every.T - y[:, j : j + 1]).square().mean(0).min() for j in range(PROBLEMS)])
    estimator = parse_estimator(keys.get("estimator", "straight-through"))
    scheme = replace(Scheme(weights=Sign(IDENTITY)), estimator=estimator)
    layer = BinaryLinear(WEIGHTS, PROBLEMS, bias=False, scheme=scheme)
    optimizer = torch.optim.Adam(layer.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        layer.progress = step / STEPS
        rows = torch.randint(EXAMPLES, (BATCH,))
        loss = (layer(x[rows]) - y[rows]).square().mean(0).sum()
        loss = loss + keys.get("pull", 0.0) * layer.progress * pull(layer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        correct_latents([layer], optimizer, correction_strength(keys.get("cage", 0.0), layer.progress))
        schedule.step()
    with torch.no_grad():
        return (layer.eval()(x) - y).square().mean(0), best


def toy_study(seeds: list[int]) -> dict[str, list[dict[str, float]]]:
    """Of each row and seed: how much larger the loss is than that of the best bits, and how many problems end at the best bits."""
    rows: dict[str, list[dict[str, float]]] = {}
    for row, keys in TOY_ROWS.items():
        rows[row] = []
        for seed in seeds:
            ended, best = toy_losses(keys, seed)
            excess = (ended.sum() / best.sum() - 1).item()
            solved = (ended <= best * (1 + 1e-4)).float().mean().item()
            rows[row].append({"seed": seed, "excess_loss": excess, "solved": solved})
    return rows


def toy_table(rows: Mapping[str, list[dict[str, float]]]) -> str:
    """The toy as Markdown."""
    lines = [
        "| row | seeds | loss over the best bits', % | problems that end at the best bits, % |",
        "| --- " * 4 + "|",
    ]
    for row, runs in rows.items():
        figures = [mean_and_spread([100 * run[key] for run in runs]) for key in ("excess_loss", "solved")]
        lines.append(f"| {' | '.join([row, str(len(runs)), *figures])} |")
    return "\n".join(lines)


def train_row(study: dict[str, Any], row: str, seed: int, arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Train a row with a seed, pack it and verify the packed file. The run's result."""
    keys: dict[str, Any] = {"data": arguments.data, "seed": seed, "threads": 1}
    if arguments.validation:
        keys["validation_data"] = arguments.validation
    recipe = load_recipe(study["recipe"]).override(study["keys"] | study["rows"][row] | keys, row)
    if not (out / "result.json").exists():
        train(recipe, out)
    run, file = load_run(out), out.with_suffix(".onebit")
    pack(run.model, file, run.task, run.training)
    checked = verify(file, out, limit=VERIFIED[KIND[arguments.study]], threads=1)
    result: dict[str, Any] = run.result() | {"file_bytes": file.stat().st_size, "packed_equal": checked.equal}
    file.unlink()
    with (out / "curves.csv").open(newline="") as curves:
        column = "val_accuracy" if KIND[arguments.study] == "images" else "val_bits_per_byte"
        result["curve"] = [float(line[column]) for line in csv.DictReader(curves)]
    return result


def train_all(study: dict[str, Any], arguments: argparse.Namespace, base: Path) -> None:
    """Train all rows that have not ended, seed after seed."""
    for seed, row in itertools.product(arguments.seeds, chosen_rows(study, arguments.rows)):
        out = base / folder(row, seed)
        if not out.with_suffix(".json").exists():
            result = train_row(study, row, seed, arguments, out)
            out.with_suffix(".json").write_text(json.dumps(result) + "\n")


def ended_runs(study: dict[str, Any], base: Path, known: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The results of each row, from this machine and from a file of results, in the order of their seeds."""
    rows = {}
    for row in study["rows"]:
        runs = {run["seed"]: run for run in known.get(row, [])}
        pattern = f"{folder(row, 0).removesuffix('0')}*.json"
        runs |= {run["seed"]: run for run in (json.loads(file.read_text()) for file in base.glob(pattern))}
        if runs:
            rows[row] = [runs[seed] for seed in sorted(runs)]
    return rows


def summary(rows: Mapping[str, list[dict[str, Any]]]) -> str:
    """How many runs ended, how many packed files are equal, and how far apart two seeds of plain training lie."""
    runs = [run for of_row in rows.values() for run in of_row]
    equal = sum(run["packed_equal"] for run in runs)
    finite = all(math.isfinite(run.get("test_loss", run.get("validation_loss"))) for run in runs)
    seconds = statistics.mean(run["seconds"] for run in runs) if runs else 0
    return f"{len(runs)} runs ended, {'all finite' if finite else 'some not finite'}, {equal} packed files equal, {seconds:.0f} s each"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["toy", *KIND])
    parser.add_argument("--data", help="a folder with train/ and test/, or a text")
    parser.add_argument("--validation", help="a text to validate on")
    parser.add_argument("--out", type=Path, default=Path("runs/gradients"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rows", default="", metavar="PATTERN", help="train only rows with names that match this")
    parser.add_argument("--known", type=Path, metavar="FILE", help="a NAME.json with runs from elsewhere")
    parser.add_argument("--table-only", action="store_true", help="of the runs that have ended")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base, file = arguments.out / arguments.study, arguments.out / f"{arguments.study}.json"
    base.mkdir(parents=True, exist_ok=True)
    known = json.loads((arguments.known or file).read_text()) if (arguments.known or file).exists() else {}
    if arguments.study == "toy":
        rows = known if arguments.table_only else toy_study(arguments.seeds)
        file.write_text(json.dumps(rows) + "\n")
        print(toy_table(rows))
        return
    study = read_study(f"gradients-{arguments.study}")
    if not arguments.table_only:
        train_all(study, arguments, base)
    rows = ended_runs(study, base, known)
    file.write_text(json.dumps(rows) + "\n")
    print(table(KIND[arguments.study], study["references"], rows))
    print(summary(rows))


if __name__ == "__main__":
    main()
