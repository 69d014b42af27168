"""Compare the published methods: one residual network, one budget, three seeds, on CIFAR-10 images in folders.

    python benchmarks/schemes_study.py --data cifar-10-images --out runs/schemes [--parallel 2] [--seeds 0 1 2]

Each training is its own process (`onebit train ...`, one thread) and logs to OUT/NAME.log. A restarted study skips or resumes it.
At the end every run is packed, compared with PyTorch (`onebit verify`) and measured in the engine. OUT/study.json, OUT/curves.png and a Markdown
table are written.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cifar10_study import measure
from measure import mean_and_spread, train_run

# A network and a budget that two cores can train in about an hour and a half for all 42 runs.
COMMON = {
    "model": "resnet8",
    "image_size": "32,32",
    "train_limit": "11000",
    "validation_share": "0.1",
    "epochs": "6",
    "batch_size": "64",
    "augment": "flip",
    "learning_rate": "2e-3",
    "warmup": "50",
    "threads": "1",
}

# The result in a method's own paper, on its own network and data, for the last column of the table.
VARIANTS: dict[str, tuple[str | None, str]] = {
    "float twin": (None, ""),
    "BinaryNormalized": ("BinaryNormalized", "Food-101, 5 x 5: float's 0.7 points ahead"),
    "BinaryNormalized, pm1, batch": ("BinaryNormalized(weights='pm1', normalize='batch')", "ours"),
    "BinaryConnect": ("BinaryConnect", "CIFAR-10 91.7 %"),
    "BinaryWeightNetwork": ("BinaryWeightNetwork", "ImageNet 60.8 %, ResNet-18"),
    "BinaryNet": ("BinaryNet", "CIFAR-10 89.9 %"),
    "XnorNet": ("XnorNet", "ImageNet 51.2 %, ResNet-18"),
    "DoReFa 1-2-6": ("DoReFa(weights=1, activations=2, gradients=6)", "ImageNet 46.1 %, AlexNet"),
    "BiRealNet": ("BiRealNet", "ImageNet 56.4 %, ResNet-18"),
    "ReActNet": ("ReActNet", "ImageNet 65.5 %, ResNet-18"),
    "NormFree": ("NormFree", "not given for this network"),
    "NormFree, group": ("NormFree(norm='group')", "not given for this network"),
    "BitNet": ("BitNet", "language models only"),
    "BitNet158": ("BitNet158", "language models only"),
}
COLOURS = [f"C{i}" for i in range(10)] + ["black", "darkgreen", "gold", "navy"]
VERIFIED_IMAGES = 1000


def folder(name: str, seed: int) -> str:
    """Of a run, and of its log."""
    return f"{''.join(c if c.isalnum() or c == '-' else '-' for c in name.replace(',', ''))}-seed{seed}"


def command(scheme: str | None, seed: int, data: str, out: Path) -> list[str]:
    """The training's command line."""
    words = [sys.executable, "-m", "onebit", "train", "cifar10", "--data", data, "--out", str(out), "--seed", str(seed)]
    for key, value in (COMMON | ({"binary": "false"} if scheme is None else {"scheme": scheme})).items():
        words += [f"--{key.replace('_', '-')}", value]
    return words


def verify(out: Path) -> dict[str, float]:
    """The difference between the engine and PyTorch: the largest relative difference at float32, and the share of answers that int8 changes."""
    words = [sys.executable, "-m", "onebit", "verify", str(out.with_suffix(".onebit")), str(out), "--threads", "1"]
    words += ["--limit", str(VERIFIED_IMAGES), "--json"]
    rows = json.loads(subprocess.run(words, capture_output=True, text=True, check=False).stdout)["comparisons"]
    found = {row["computed by"].split(",")[0]: row for row in rows}
    float32, int8 = found["engine float32"], found["engine int8"]
    return {
        "float32_relative": float32["relative"],
        "float32_changed": float32["changed"] / float32["compared"],
        "int8_changed": int8["changed"] / int8["compared"],
    }


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """The study as Markdown: mean over seeds, and the spread where there are several."""
    lines = [
        "| method | test accuracy, PyTorch | engine int8 | file, bytes | engine, ms/image | answers changed | training, s "
        "| its source's own claim |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in rows.items():
        trained, packed = (mean_and_spread([100 * r[k] for r in runs]) for k in ("run_test_accuracy", "int8_accuracy"))
        size, ms, changed, seconds = (
            sum(r[key] for r in runs) / len(runs)
            for key in ("file_bytes", "int8_ms_per_image", "int8_changed", "run_seconds")
        )
        lines.append(
            f"| {name} | {trained} % | {packed} % | {size:,.0f} | {ms:.3f} | {100 * changed:.2f} % | {seconds:.0f} | {VARIANTS[name][1]} |"
        )
    return "\n".join(lines)


def draw(out: Path, seeds: list[int]) -> None:
    """Draw the validation accuracy of every method over the epochs, one line per seed, to OUT/curves.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    for name, colour in zip(VARIANTS, COLOURS, strict=True):
        for seed in seeds:
            path = out / folder(name, seed) / "curves.csv"
            if not path.exists():
                continue
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            label = name if seed == seeds[0] else None
            axis.plot(
                [int(r["epoch"]) for r in rows], [100 * float(r["val_accuracy"]) for r in rows], color=colour, alpha=0.7, label=label
            )  # fmt: skip
    axis.set(xlabel="epoch", ylabel="validation accuracy, %", title="ResNet-8 on CIFAR-10: a line for each seed")
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(out / "curves.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", required=True, help="a folder with train/ and test/ that hold a folder for each class"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/schemes"))
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-only", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    jobs = [(name, seed, arguments.out / folder(name, seed)) for seed in arguments.seeds for name in VARIANTS]
    with ThreadPoolExecutor(arguments.parallel) as pool:
        for name, seed, out in jobs:
            pool.submit(train_run, out.name, command(VARIANTS[name][0], seed, arguments.data, out), out)
    if arguments.train_only:
        return
    rows: dict[str, list[dict[str, float]]] = {}
    for name, _, out in jobs:
        if (out / "result.json").exists():
            measured = out.with_suffix(".json")
            if not measured.exists():
                measured.write_text(json.dumps(measure(out, arguments.data) | verify(out)))
            rows.setdefault(name, []).append(json.loads(measured.read_text()))
            (arguments.out / "study.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))
    draw(arguments.out, arguments.seeds)


if __name__ == "__main__":
    main()
