"""`onebit demo`: the whole way on handwritten digits, in about two minutes; or on text, see `demo_text`."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onebit.cli import arguments
from onebit.paths import expand
from onebit.printable import printable

EXAMPLES = """examples:
  onebit demo
  onebit demo --out my_demo --epochs 5
  onebit demo text                          a 1-bit language decoder instead, about three minutes
"""

# The smallest network that shows what bits can do; the digits are enlarged so that two poolings leave something to see.
IMAGE_SIZE = (16, 16)


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "demo",
        run,
        EXAMPLES,
        help="train, pack and run a 1-bit network on handwritten digits, or on text",
        description=(
            "Train a network of single bits and its float twin on scikit-learn's handwritten digits (or on the documentation and sources that come "
            "with Python), pack it, verify it, run it, and print one table and one picture (or a sample of text)."
        ),
    )
    parser.add_argument("what", nargs="?", choices=("images", "text"), default="images", help="default %(default)s")
    parser.add_argument(
        "--out",
        type=expand,
        metavar="DIR",
        help="default onebit-demo, onebit-demo-text; an earlier demo there is replaced",
    )
    parser.add_argument("--epochs", type=int, help="of the binary network and of its twin (default the recipe's)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    args.out = args.out or Path("onebit-demo" if args.what == "images" else "onebit-demo-text")
    from onebit.training.lock import hold

    with hold(args.out, "demo"):
        if args.what == "text":
            from onebit.cli import demo_text

            return demo_text.run(args)
        return _run_images(args)


def _run_images(args: argparse.Namespace) -> int:
    import onebit
    from onebit.data import load_test_images
    from onebit.images import ImageTask
    from onebit.runtime import load_image_session
    from onebit.training import load_recipe, train
    from onebit.verification import verify

    overrides: dict[str, Any] = {"image_size": list(IMAGE_SIZE), "seed": args.seed}
    if args.epochs is not None:
        overrides["epochs"] = args.epochs
    recipe = load_recipe("digits").override(overrides, "demo")
    clear(args.out)
    start = time.monotonic()
    runs = {}
    for name, binary in (("binary", True), ("float", False)):
        print(
            f"Training the {'network of single bits' if binary else 'float twin'} on handwritten digits ...",
            file=sys.stderr,
            flush=True,
        )
        keys = {"binary": binary} if binary else {"binary": False, "learning_rate": 1e-3}
        runs[name] = train(recipe.override(keys), args.out / name)
    file = args.out / "digits.onebit"
    print()
    report = onebit.pack(runs["binary"].model, file, runs["binary"].task, runs["binary"].training)
    print(f"Packed: {report.parameters:,} parameters of one bit each, {report.ratio:.1f} times smaller than float32")
    task = runs["binary"].task
    assert isinstance(task, ImageTask)
    images = load_test_images("digits", task, recipe.seed)
    verified = verify(file, runs["binary"], threads=1)
    (float32,), (int8,) = verified.of("engine", "float32"), verified.of("engine", "int8")
    print(
        f"Verified: the engine differs from PyTorch by {float32.relative:.0e} at float32; "
        f"at int8 {int8.changed} of {int8.compared} answers change"
    )
    session = load_image_session(file, threads=1)
    answers = session(images.pixels).argmax(1)
    times = _time_both(runs["float"], session, images.pixels[:1])
    float_bytes = 4 * sum(p.numel() for p in runs["float"].model.parameters())
    print_table(
        [
            ("", "float, PyTorch", "binary, PyTorch", "binary, engine int8"),
            (
                "test accuracy",
                f"{100 * runs['float'].result()['test_accuracy']:.1f} %",
                f"{100 * runs['binary'].result()['test_accuracy']:.1f} %",
                f"{100 * float((answers == images.labels).mean()):.1f} %",
            ),
            ("bytes of parameters", f"{float_bytes:,}", "", f"{report.parameter_bytes:,}"),
            ("bytes of the file", "", "", f"{report.file_bytes:,}"),
            ("ms per image (batch 1, 1 thread)", f"{times['PyTorch']:.3f}", "", f"{times['engine']:.3f}"),
        ]
    )
    picture = args.out / "demo.png"
    _draw(picture, runs, session, images)
    _write_samples(args.out / "samples", images)
    print(f"\nCurves and sample answers: {printable(picture)}   ({time.monotonic() - start:.0f} s in all)")
    command, shown = printable(command_name()), printable(file)
    print("Next:")
    print(f"  {command} info {shown}")
    print(f"  {command} classify {shown} {printable(args.out / 'samples')}/*.png --top 2")
    print(f"  {command} train images --data FOLDER    with your own pictures in FOLDER/CLASS/*.jpg")
    print(f"  {command} demo text    the same for language, about three minutes")
    return 0


def command_name() -> str:
    """How the user can call the command again: in a virtual environment that is not active it is found by its path only."""
    return "onebit" if shutil.which("onebit") or sys.argv[0].endswith("__main__.py") else sys.argv[0]


def clear(out: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    from onebit.errors import OnebitError
    from onebit.training.lock import is_empty

    if not is_empty(out) and not (out / "binary").is_dir():
        raise OnebitError(f"[demo] {out} holds something else than an earlier demo: give another --out")
    for name in ("binary", "float", "samples"):
        shutil.rmtree(out / name, ignore_errors=True)


def _time_both(twin: Any, session: Any, pixels: Any) -> dict[str, float]:
    """Milliseconds per image of PyTorch's float twin and of the engine, one thread each, taking turns."""
    import torch

    from onebit.training.batches import scale_pixels

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x = scale_pixels(pixels, twin.task)
    jobs: dict[str, Callable[[], Any]] = {"PyTorch": lambda: twin.model(x), "engine": lambda: session(pixels)}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with torch.inference_mode():
        for _ in range(200):
            for name, job in jobs.items():
                begin = time.perf_counter()
                job()
                times[name].append(1e3 * (time.perf_counter() - begin))
    torch.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in times.items()}


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print rows of cells in columns; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for index, row in enumerate(rows):
        print(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
        if index == 0:
            print("  ".join("-" * width for width in widths))


def _draw(path: Path, runs: dict[str, Any], session: Any, images: Any) -> None:
    """Curves of both networks above, sample answers of the engine below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    from onebit.runtime.session import softmax

    figure = plt.figure(figsize=(11, 7.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2.3))
    for axis, key, title in zip(above.subplots(1, 2), ("loss", "accuracy"), ("Cross-entropy", "Accuracy"), strict=True):
        for (name, trained), colour in zip(runs.items(), ("tab:blue", "tab:orange"), strict=True):
            rows = trained.curves()
            epochs = [row["epoch"] for row in rows]
            axis.plot(
                epochs, [row[f"train_{key}"] for row in rows], "--", color=colour, alpha=0.6, label=f"{name}, training"
            )
            axis.plot(epochs, [row[f"val_{key}"] for row in rows], color=colour, label=f"{name}, test")
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    probabilities = softmax(session(images.pixels))
    answers = probabilities.argmax(1)
    # The first few of the set, and in front of them up to three that went wrong: a picture of right answers only would not be honest.
    wrong = np.flatnonzero(answers != images.labels)[:3]
    chosen = [*wrong, *[i for i in range(len(images)) if i not in wrong]][:12]
    for axis, i in zip(below.subplots(2, 6).flat, chosen, strict=False):
        axis.imshow(images.pixels[i].squeeze(), cmap="gray")
        axis.set_axis_off()
        right = answers[i] == images.labels[i]
        label = f"{images.classes[answers[i]]}  {100 * probabilities[i, answers[i]]:.0f} %"
        axis.set_title(
            label if right else f"{label}\n(it is {images.classes[images.labels[i]]})",
            color="green" if right else "red",
            fontsize=10,
        )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _write_samples(folder: Path, images: Any) -> None:
    """A few test images as files, to try `onebit classify` on."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(5):
        Image.fromarray(images.pixels[i].squeeze()).save(folder / f"{i}-is-{images.classes[images.labels[i]]}.png")
