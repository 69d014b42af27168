"""What a network with exits or planes does at every confidence, measured on images, and the picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.data.held_out import images_to_measure
from onebit.data.images import ImageSet
from onebit.data.record import DataRecord
from onebit.early_exits import Point, curve
from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.ops.exit import certainty
from onebit.pretrained import find
from onebit.printable import printable
from onebit.progress import track
from onebit.runtime.adaptive import Cascade, heads_of, passed_by
from onebit.runtime.session import ImageSession, Precision

BATCH = 64
CONFIDENCES = tuple(
    round(float(c), 3) for c in np.concatenate([np.arange(0.2, 0.96, 0.02), np.arange(0.96, 0.9995, 0.004)])
)


@dataclass(frozen=True)
class AdaptiveCurve:
    """What a network does at every confidence.

    Args:
        file: the packed file.
        images: the number of images measured.
        lines: for each number of planes with exits a point for each confidence, rising; without exits one line of all planes.
        ends: planes, products and accuracy of each network that the file holds, without early ends.
    """

    file: str
    images: int
    lines: tuple[tuple[int, tuple[Point, ...]], ...]
    ends: tuple[tuple[int, int, float], ...]

    @property
    def whole(self) -> tuple[int, float]:
        """Products and accuracy of the whole network without early ends."""
        _, products, accuracy = self.ends[-1]
        return products, accuracy

    @property
    def points(self) -> tuple[Point, ...]:
        """The line of all planes."""
        return self.lines[-1][1]

    @property
    def cheapest(self) -> Point | None:
        """The point of the fewest products that is at least as accurate as the whole network; None if there is none."""
        good = [point for _, points in self.lines for point in points if point.accuracy >= self.whole[1]]
        return min(good, key=lambda point: point.spent.products, default=None)


def adaptive_curve(
    file: str | Path, data: str | Path, threads: int | None = None, precision: Precision = "int8"
) -> AdaptiveCurve:
    """Measure a packed network with exits or planes on images, at every confidence.

    Args:
        file: a `.onebit` file.
        data: a folder of images, or the name of a data set.
        threads, precision: see `onebit.load`.

    Raises:
        OnebitError: the file is not a classifier of images, or has neither exits nor planes.
        DataError: the data cannot be used.
    """
    path = find(file)
    model = load_model(path)
    session = ImageSession(model, precision, threads) if model.task["kind"] == "image-classification" else None
    if session is None or session.task is None:
        raise OnebitError(f"[{path}] is not a classifier of images: give one with exits or planes")
    record = None if model.training is None else DataRecord.from_json(model.training)
    images = images_to_measure(str(data), session.task, record).images
    has_exits = len(passed_by(model)) == 1
    whole = Cascade(model, lambda _: None).whole
    lines, ends = [], []
    for one in (*model.smaller, model) if has_exits else (model,):
        cascade = Cascade(one, lambda _: None)
        sure, right = _answers([ImageSession(head, precision, threads) for head in heads_of(one)], images)
        lines.append((one.planes, curve(sure, right, cascade.stages, whole, CONFIDENCES)))
        before = 0
        for place, (planes, exit, products) in enumerate(cascade.stages):
            if exit == 0:
                ends.append((planes, products - before, float(right[:, place].mean())))
                before = products
    return AdaptiveCurve(str(path), len(images), tuple(lines), tuple(ends))


def _answers(heads: list[ImageSession], images: ImageSet) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How sure each head is of each image, and whether it is right, (images, heads)."""
    sure = np.zeros((len(images), len(heads)))
    right = np.zeros((len(images), len(heads)), bool)
    for first in track(range(0, len(images), BATCH), "measure", "images", BATCH, len(images)):
        some = slice(first, first + BATCH)
        pixels = np.ascontiguousarray(images.pixels[some])
        for place, head in enumerate(heads):
            logits = head(pixels)
            sure[some, place] = certainty(logits)
            right[some, place] = logits.argmax(1) == images.labels[some]
    return sure, right


def adaptive_figure(found: AdaptiveCurve) -> Any:
    """Draw accuracy over products, and the share of inputs by cost at each confidence.

    Returns:
        A Matplotlib figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    whole, accuracy = found.whole
    for number, (planes, points) in enumerate(found.lines):
        style = ("#1f5fa8", "#4c9f70", "#7a5195")[number % 3]
        name = "1 plane" if planes == 1 else f"{planes} planes"
        left.plot(
            [p.spent.relative for p in points],
            [p.accuracy for p in points],
            color=style,
            label=f"by confidence, {name}",
        )
    left.axhline(accuracy, color="0.6", linestyle="--", linewidth=1)
    for planes, products, own in found.ends:
        name = "all images to the end, " + (f"{planes} planes" if planes > 1 else "1 plane")
        left.plot(products / whole, own, "o" if planes > 1 else "s", color="#d9731a", label=name)
    best = found.cheapest
    if best is not None:
        left.plot(
            best.spent.relative,
            best.accuracy,
            "*",
            markersize=13,
            color="#1f5fa8",
            label=f"confidence {best.confidence:g}",
        )
    left.set_xlabel("products of a weight's bit, of the whole network's")
    left.set_ylabel("accuracy")
    left.legend(fontsize=8, loc="lower right")
    stages = found.points[0].spent.stages
    shares = [[point.spent.stages[i].share for point in found.points] for i in range(len(stages))]
    names = [
        f"{'end' if s.exit == 0 else f'exit {s.exit}'}, {s.planes} plane{'s' if s.planes > 1 else ''}: {s.products / whole:.0%}"
        for s in stages
    ]
    from matplotlib import colormaps

    colours = [colormaps["viridis"](0.95 - 0.9 * i / max(1, len(stages) - 1)) for i in range(len(stages))]
    right.stackplot([point.confidence for point in found.points], shares, labels=names, colors=colours)
    right.set_xlabel("confidence")
    right.set_ylabel("share of the images that end there")
    right.set_xlim(found.points[0].confidence, found.points[-1].confidence)
    right.set_ylim(0, 1)
    figure.legend(
        *right.get_legend_handles_labels(),
        fontsize=8,
        loc="outside right center",
        title="where, and its products",
        title_fontsize=8,
    )
    for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.grid(alpha=0.25)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{printable(Path(found.file).name)}, {found.images:,} images", fontsize=11)
    return figure
