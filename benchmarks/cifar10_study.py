"""Study the effect of `values` and `normalize` on accuracy: train every pair, and the float twins, alike on CIFAR-10 images in folders.

    python benchmarks/cifar10_study.py --data cifar-10-images --out runs/study [--parallel 2] [--seeds 0 1 2]

Each training is its own process (`onebit train ...`, one thread) and logs to OUT/NAME.log. A restarted study skips or resumes it.
At the end every run is packed and measured in the engine, and OUT/study.json, OUT/curves.png and a Markdown table are written.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import mean_and_spread, train_run

# One small network and one budget: two cores train all 18 runs in under an hour.
COMMON = {
    "image_size": "32,32",
    "widths": "32,64,128",
    "train_limit": "20000",
    "epochs": "5",
    "batch_size": "64",
    "augment": "none",
    "threads": "1",
    "latent_spread": "1.0",
    "threshold": "layer",
}
BINARY_RATE, FLOAT_RATE = "2e-3", "1e-3"

# With three seeds, the others have one: the paper's default, the best pair of small trials, what the recipes make of it, and the float baselines.
MANY_SEEDS = ("binary-01-channel", "binary-pm1-batch", "float", "float-batch-norm", "best", "float-batch-norm-2e-3")


def variants() -> dict[str, dict[str, str]]:
    """Name to recipe keys."""
    found = {
        f"binary-{values}-{normalize}": {"values": values, "normalize": normalize, "learning_rate": BINARY_RATE}
        for values in ("01", "pm1")
        for normalize in ("channel", "example", "batch", "none")
    }
    # What the recipes of images set.
    found["best"] = found["binary-pm1-batch"] | {"latent_spread": "0.25", "threshold": "output"}
    found["float"] = {"binary": "false", "learning_rate": FLOAT_RATE}
    found["float-batch-norm"] = {"binary": "false", "batch_norm": "true", "learning_rate": FLOAT_RATE}
    found["float-batch-norm-2e-3"] = found["float-batch-norm"] | {"learning_rate": "2e-3"}
    return found


def command(keys: dict[str, str], seed: int, data: str, out: Path) -> list[str]:
    """The training's command line."""
    words = [sys.executable, "-m", "onebit", "train", "cifar10", "--data", data, "--out", str(out), "--seed", str(seed)]
    for key, value in (COMMON | keys).items():
        words += [f"--{key.replace('_', '-')}", value]
    return words


def measure(out: Path, data: str) -> dict[str, float]:
    """Pack a finished run and measure the file in the engine, int8, one thread."""
    from onebit.cli.main import main as onebit

    file = out.with_suffix(".onebit")
    row = {
        f"run_{key}": value
        for key, value in json.loads((out / "result.json").read_text()).items()
        if isinstance(value, (int, float))
    }
    if onebit(["pack", str(out), "--out", str(file)]):
        return row
    row["file_bytes"] = file.stat().st_size
    words = [sys.executable, "-m", "onebit", "evaluate", str(file), "--data", data, "--threads", "1", "--json"]
    result = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    row["int8_accuracy"] = result["accuracy"]
    row["int8_ms_per_image"] = 1e3 * result["seconds"] / result["images"]
    return row


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """The study as Markdown: mean over seeds, and the spread where there are several."""
    lines = [
        "| network | seeds | test accuracy, PyTorch | engine int8 | file, bytes | training, s | engine int8, ms/image |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in rows.items():

        def percent(key: str, runs: list[dict[str, float]] = runs) -> str:
            values = [100 * run[key] for run in runs if key in run]
            return f"{mean_and_spread(values)} %" if values else "-"

        def mean(key: str, digits: int, runs: list[dict[str, float]] = runs) -> str:
            values = [run[key] for run in runs if key in run]
            return f"{statistics.mean(values):,.{digits}f}" if values else "-"

        lines.append(
            f"| {name} | {len(runs)} | {percent('run_test_accuracy')} | {percent('int8_accuracy')} | {mean('file_bytes', 0)} "
            f"| {mean('run_seconds', 0)} | {mean('int8_ms_per_image', 3)} |"
        )
    return "\n".join(lines)


def draw(out: Path, jobs: list[tuple[str, str, dict[str, str], int]]) -> None:
    """Draw the curves of the networks with several seeds to OUT/curves.png: training dashed, test solid."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for (name, colour), (axis, key) in itertools.product(
        zip(MANY_SEEDS, ("tab:blue", "tab:green", "tab:orange", "tab:red", "tab:purple", "tab:brown"), strict=True),
        zip(axes, ("loss", "accuracy"), strict=True),
    ):
        for full, variant, _, seed in jobs:
            if variant != name or not (out / full / "curves.csv").exists():
                continue
            with (out / full / "curves.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            epochs = [int(row["epoch"]) for row in rows]
            axis.plot(epochs, [float(row[f"train_{key}"]) for row in rows], "--", color=colour, alpha=0.4)
            label = name if seed == jobs[0][3] else None
            axis.plot(epochs, [float(row[f"val_{key}"]) for row in rows], color=colour, alpha=0.9, label=label)
        axis.set(xlabel="epoch", title={"loss": "Cross-entropy", "accuracy": "Accuracy"}[key], xticks=epochs)
        axis.grid(alpha=0.3)
    axes[1].legend()
    figure.suptitle("Solid lines: test images; dashed: training images; one line per seed")
    figure.savefig(out / "curves.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", required=True, help="a folder with train/ and test/ that hold a folder for each class"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-only", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    jobs = [(f"{name}-seed{seed}", name, keys, seed) for seed in arguments.seeds for name, keys in variants().items()
            if seed == arguments.seeds[0] or name in MANY_SEEDS]  # fmt: skip
    with ThreadPoolExecutor(arguments.parallel) as pool:
        for full, _, keys, seed in jobs:
            out = arguments.out / full
            pool.submit(train_run, full, command(keys, seed, arguments.data, out), out)
    if arguments.train_only:
        return
    rows: dict[str, list[dict[str, float]]] = {}
    for full, name, _, _ in jobs:
        if (arguments.out / full / "result.json").exists():
            rows.setdefault(name, []).append(measure(arguments.out / full, arguments.data))
            (arguments.out / "study.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))
    draw(arguments.out, jobs)


if __name__ == "__main__":
    main()
