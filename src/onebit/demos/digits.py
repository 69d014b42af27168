"""The demo on handwritten digits, which takes about a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onebit.data import ImageSet, load_test_images
from onebit.demos.twins import NAMES, bytes_of, clear, in_turns, table, train_both
from onebit.images import ImageTask
from onebit.packing import PackReport, pack
from onebit.printable import printable
from onebit.runtime import ImageSession, load_image_session
from onebit.runtime.session import softmax
from onebit.training import Run, load_recipe
from onebit.training.batches import scale_pixels
from onebit.verification import verify

# The smallest network with a useful result. The digits are enlarged so that some pixels remain after two poolings.
IMAGE_SIZE = (16, 16)
FLOAT_RATE = 1e-3  # the best learning rate of the float twin
FILE, PICTURE, SAMPLES = "digits.onebit", "demo.png", "samples"
SAMPLE_COUNT = 5


def demonstrate(out: Path, epochs: int | None = None, seed: int = 0) -> Iterator[str]:
    """Train both networks, pack, verify and run the binary one, and draw a picture.

    Args:
        out: the output folder. An earlier demo in it is replaced.
        epochs: the epochs of each network. The default is the recipe's.
        seed: the random seed.

    Yields:
        Lines of text about each result.

    Raises:
        OnebitError: the folder has other contents.
    """
    overrides: dict[str, Any] = {"image_size": list(IMAGE_SIZE), "seed": seed}
    if epochs is not None:
        overrides["epochs"] = epochs
    recipe = load_recipe("digits").override(overrides, "demo")
    clear(out)
    start = time.monotonic()
    binary, twin = train_both(recipe, FLOAT_RATE, out, "network", "handwritten digits")
    file = out / FILE
    report = pack(binary.model, file, binary.task, binary.training)
    yield f"\nPacked: {report.parameters:,} parameters of one bit each, {report.ratio:.1f} times smaller than float32"
    verified = verify(file, binary, threads=1)
    (float32,), (int8,) = verified.of("engine", "float32"), verified.of("engine", "int8")
    yield (
        f"Verified: the engine differs from PyTorch by {float32.relative:.0e} at float32; "
        f"at int8 {int8.changed} of {int8.compared} answers change"
    )
    assert isinstance(binary.task, ImageTask)
    images = load_test_images("digits", binary.task, recipe.run.seed)
    session = load_image_session(file, threads=1)
    probabilities = softmax(session(images.pixels))
    yield _compared(binary, twin, report, session, images, probabilities)
    _draw(out / PICTURE, {"binary": binary, "float": twin}, probabilities, images)
    _write_samples(out / SAMPLES, images)
    yield f"\nCurves and sample answers: {printable(out / PICTURE)}   ({time.monotonic() - start:.0f} s in all)"


def next_steps(command: str, file: str, samples: str) -> list[str]:
    """What a user can do with what the demo left."""
    return [
        f"{command} classify {file} {samples}/*.png --top 2",
        f"{command} train images --data FOLDER    with your own pictures in FOLDER/CLASS/*.jpg",
        f"{command} demo text    the same for text, about three minutes",
    ]


def _compared(
    binary: Run, twin: Run, report: PackReport, session: ImageSession, images: ImageSet, probabilities: NDArray[Any]
) -> str:
    assert isinstance(twin.task, ImageTask)
    pixels = images.pixels[:1]
    x = scale_pixels(pixels, twin.task)
    times = in_turns({"PyTorch": lambda: twin.model(x), "engine": lambda: session(pixels)}, 200)
    in_engine = float((probabilities.argmax(1) == images.labels).mean())
    accuracies = (twin.result()["test_accuracy"], binary.result()["test_accuracy"], in_engine)
    return table(
        [
            ("test accuracy", *(f"{100 * accuracy:.1f} %" for accuracy in accuracies)),
            ("bytes of parameters", f"{bytes_of(twin.model):,}", "", f"{report.parameter_bytes:,}"),
            ("bytes of the file", "", "", f"{report.file_bytes:,}"),
            ("ms per image (batch 1, 1 thread)", f"{times['PyTorch']:.3f}", "", f"{times['engine']:.3f}"),
        ]
    )


def _draw(path: Path, runs: dict[str, Run], probabilities: NDArray[Any], images: ImageSet) -> None:
    """Draw the curves of both networks (above) and sample answers of the engine (below)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 7.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2.3))
    for axis, key, title in zip(above.subplots(1, 2), ("loss", "accuracy"), ("Cross-entropy", "Accuracy"), strict=True):
        for name, colour in zip(NAMES, ("tab:blue", "tab:orange"), strict=True):
            rows = runs[name].curves()
            epochs = [row["epoch"] for row in rows]
            seen, held = ([row[f"{part}_{key}"] for row in rows] for part in ("train", "val"))
            axis.plot(epochs, seen, "--", color=colour, alpha=0.6, label=f"{name}, training")
            axis.plot(epochs, held, color=colour, label=f"{name}, validation")
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    answers = probabilities.argmax(1)
    # Up to three wrong answers, then the first images of the set: showing only right answers would not be honest.
    wrong = np.flatnonzero(answers != images.labels)[:3]
    chosen = [*wrong, *[i for i in range(len(images)) if i not in wrong]][:12]
    for axis, i in zip(below.subplots(2, 6).flat, chosen, strict=False):
        axis.imshow(images.pixels[i].squeeze(), cmap="gray")
        axis.set_axis_off()
        right = answers[i] == images.labels[i]
        label = f"{images.classes[answers[i]]}  {100 * probabilities[i, answers[i]]:.0f} %"
        title = label if right else f"{label}\n(it is {images.classes[images.labels[i]]})"
        axis.set_title(title, color="green" if right else "red", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _write_samples(folder: Path, images: ImageSet) -> None:
    """Write a few test images as files for `onebit classify`."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(SAMPLE_COUNT):
        name = f"{i}-is-{images.classes[images.labels[i]]}.png"
        Image.fromarray(images.pixels[i].squeeze()).save(folder / name)
