"""Accuracy over bytes of binary networks whose last layer of floats is pruned to a share of its weights.

    python benchmarks/sparse_heads.py --images cifar-10-images --text books-valid.txt --out runs/sparse-heads [--picture docs/sparse-heads.png]

Two networks with a float head are trained with head_share 1, 0.5, 0.2 and 0.05: BinaryNet's VGG, narrow, on
images in folders, and an LSTM whose head is most of its file, on a text. All of a kind have the same budget and seed, one thread. Each is packed,
and the head of each is timed by itself in the engine, in turns. A study that was stopped goes on. Writes OUT/sparse-heads.json and prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleaved_medians

import onebit
from onebit._engine import Engine
from onebit.fileformat import load_model
from onebit.program import Program, Step
from onebit.training import load_recipe, load_run, train

SHARES = (1.0, 0.5, 0.2, 0.05)
IMAGES: dict[str, Any] = {
    "model": "vgg", "scheme": "BinaryNet", "widths": [16, 32, 64], "hidden": [512], "image_size": [32, 32], "train_limit": 5000, "epochs": 6,
    "batch_size": 50, "learning_rate": 2e-3,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "model": "lstm", "hybrid": True, "features": 64, "hidden": 192, "blocks": 1, "context": 32, "vocabulary": 2048, "batch_size": 32,
    "learning_rate": 3e-3, "epochs": 4, "epoch_steps": 100, "validation_tokens": 20000,
}  # fmt: skip
KINDS = {"images": ("images", IMAGES, "test_accuracy"), "text": ("lstm", TEXT, "validation_bits_per_byte")}


def trained(kind: str, data: str, share: float, out: Path) -> dict[str, Any]:
    """Train and pack a network, unless it is done; its figure and its sizes."""
    recipe, keys, figure = KINDS[kind]
    folder = out / f"{kind}-{share}"
    if not (folder / "result.json").exists():
        base = load_recipe(recipe).override({"data": data, **keys, "threads": 1, "head_share": share})
        train(base, folder, resume=(folder / "recipe.yaml").exists(), progress=False)
    run = load_run(folder)
    file = out / f"{folder.name}.onebit"
    onebit.pack(run.model, file, run.task)
    step = head_of(file)[0]
    weights = load_model(file).tensors[step.tensors["weight"]]
    return {
        "kind": kind,
        "share": share,
        "figure": run.result()[figure],
        "file_bytes": file.stat().st_size,
        "head_bytes": sum(load_model(file).tensors[name].nbytes for name in step.tensors.values()),
        "head_weights": int(weights.size),
    }


def head_of(file: Path) -> tuple[Step, int]:
    """The last dense layer of a packed file, and how many inputs it has."""
    step = next(s for s in reversed(load_model(file).program.steps) if s.op in ("linear", "sparse_linear"))
    return step, step.attributes["in_features"]


def head_times(kind: str, out: Path, repeats: int) -> dict[str, float]:
    """Milliseconds of the head alone, of one row, for each share."""
    jobs = {}
    for share in SHARES:
        file = out / f"{kind}-{share}.onebit"
        step, inputs = head_of(file)
        tensors = {name: load_model(file).tensors[name] for name in step.tensors.values()}
        alone = Program("x", (inputs,), (Step(step.op, ("x",), "y", step.attributes, step.tensors),), "y")
        engine = Engine(alone.to_json(), tensors, "int8", 1)
        x = np.random.default_rng(0).standard_normal((1, inputs)).astype(np.float32)
        jobs[str(share)] = lambda engine=engine, x=x: [engine.run(x) for _ in range(100)]
    return {share: ms / 100 for share, ms in interleaved_medians(jobs, repeats).items()}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| network | head | weights of the head | its bytes | file, bytes | figure | head, one row |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        name = "VGG, CIFAR-10" if row["kind"] == "images" else "LSTM, books"
        head = f"{100 * row['share']:g} %"
        figure = f"{100 * row['figure']:.2f} %" if row["kind"] == "images" else f"{row['figure']:.3f} bits per byte"
        time = f"{1e3 * row['head_ms']:.1f} µs"
        sizes = f"{row['head_weights']:,} | {row['head_bytes']:,} | {row['file_bytes']:,}"
        lines.append(f"| {name} | {head} | {sizes} | {figure} | {time} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each kind of network: the figure over the bytes of the file."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure = Figure(figsize=(4.5 * len(kinds), 3.2))
    for number, kind in enumerate(kinds, 1):
        axis = figure.add_subplot(1, len(kinds), number)
        points = [row for row in rows if row["kind"] == kind]
        factor = 100 if kind == "images" else 1
        axis.plot([row["file_bytes"] / 1e3 for row in points], [factor * row["figure"] for row in points], "o-")
        for row in points:
            place = (row["file_bytes"] / 1e3, factor * row["figure"])
            axis.annotate(f"{100 * row['share']:g} %", place, xytext=(4, 5), textcoords="offset points", fontsize=8)
        axis.set_xlabel("packed file, kB")
        axis.set_ylabel("test accuracy, %" if kind == "images" else "bits per byte")
        axis.set_title("VGG, CIFAR-10" if kind == "images" else "LSTM, books", fontsize=10)
        axis.margins(0.15)
        axis.grid(alpha=0.3)
        if kind == "text":
            axis.invert_yaxis()  # better is up in both
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="a folder of images, with train and test")
    parser.add_argument("--text", help="a text file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for kind, data in (("images", arguments.images), ("text", arguments.text)):
        if data is None:
            continue
        own = [trained(kind, data, share, arguments.out) for share in SHARES]
        times = head_times(kind, arguments.out, arguments.repeats)
        rows += [row | {"head_ms": times.get(str(row["share"]))} for row in own]
        (arguments.out / "sparse-heads.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if arguments.picture:
        draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
