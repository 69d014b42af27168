"""Plots of a scheme's quantizers with their gradients, and of training runs."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebit.errors import OnebitError
from onebit.paths import expand
from onebit.quantizers import Codes
from onebit.schemes import SCHEMES, Scheme

# Latent weights and inputs spread evenly over -2..2. Their mean is 0 and their mean magnitude is 1, so that scales are 1.
REACH = 2.0
POINTS = 401
STEP_COLOUR, FACTOR_COLOUR = "#1f5fa8", "#d9731a"
# With more layers than this a legend would fill the picture.
NAMED_LAYERS = 16
LAYER_MEASURES = {
    "flipped": "bits that flipped",
    "ones": "bits that are one",
    "clipped": "latents at their limit",
    "weight_gradient": "weights that get a gradient",
    "input_gradient": "inputs that pass a gradient",
}


def response(quantize: Callable[[Tensor, bool, float], Codes], progress: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """The output of a quantizer for numbers from -2 to 2, and its straight-through gradient.

    Args:
        quantize: a function of a row (1, numbers), of whether it is training and of the progress of training, that returns codes.
        progress: of training, from 0 to 1.

    Returns:
        The numbers, the quantised numbers outside training, and the derivative of each with respect to its own number; (numbers) each.
    """
    x = torch.linspace(-REACH, REACH, POINTS)[None].requires_grad_()
    with torch.random.fork_rng():
        used, training = (_values(quantize(x, mode, progress)) for mode in (False, True))
    # One number at a time: with a shared mean or maximum, the derivative of the sum would mix them.
    slopes = [torch.autograd.grad(training[0, i], x, retain_graph=True)[0][0, i] for i in range(POINTS)]
    return x[0].detach(), used[0].detach(), torch.stack(slopes)


def _values(codes: Codes) -> Tensor:
    return codes.codes if codes.scale is None else codes.codes * codes.scale


def _weights(scheme: Scheme, progress: float) -> tuple[Tensor, Tensor, Tensor]:
    """The response of a scheme's weight quantizer, in units of the largest weight."""
    x, y, slope = response(lambda w, mode, p: scheme.weights(w, 0, mode, p), progress)
    largest = y.abs().max()
    return x, y / largest, slope / largest


def _inputs(scheme: Scheme, progress: float) -> tuple[Tensor, Tensor, Tensor]:
    activations = scheme.activations
    if activations is None:
        x = torch.linspace(-REACH, REACH, POINTS)
        return x, x, torch.ones_like(x)
    return response(lambda v, mode, p: activations(v, (-1,), mode, p), progress)


def _slopes(part: Callable[[Scheme, float], tuple[Tensor, Tensor, Tensor]], scheme: Scheme) -> dict[str, Tensor]:
    """The derivative at several stages of training; a single one if it does not change."""
    stages = {"first step": 0.0, "half way": 0.5, "last step": 1.0}
    found = {label: part(scheme, progress)[2] for label, progress in stages.items()}
    first = found["first step"]
    return {"": first} if all(torch.equal(first, slope) for slope in found.values()) else found


def scheme_figure(scheme: Scheme) -> Any:
    """A scheme's quantizers of weights and of inputs (above), and their straight-through gradients (below)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.6), layout="constrained")
    figure.suptitle(type(scheme).__name__, fontsize=14, fontweight="bold")
    grid = figure.subplots(2, 2, sharex=True)
    for column, (part, what, quantizer) in enumerate(
        ((_weights, "weight", scheme.weights), (_inputs, "input", scheme.activations))
    ):
        x, y, _ = part(scheme, 0.0)
        above, below = grid[0][column], grid[1][column]
        _draw_step(above, x, y)
        # The names of the parts are long, so they have their own lines.
        words = "stay float" if quantizer is None else repr(quantizer)
        above.set_title(f"{what}s\n{textwrap.fill(words, 58)}", fontsize=9.5)
        above.set_ylabel(f"quantised {what}" + (" / largest" if what == "weight" else ""))
        slopes = _slopes(part, scheme)
        for index, (label, slope) in enumerate(slopes.items()):
            shade = 1 if len(slopes) == 1 else 0.4 + 0.3 * index
            below.plot(x, slope, color=FACTOR_COLOUR, alpha=shade, label=label, lw=2)
            if len(slopes) == 1:
                below.fill_between(x, slope, color=FACTOR_COLOUR, alpha=0.2, lw=0)
        if len(slopes) > 1:
            below.legend(fontsize=8, title="of training", title_fontsize=8, frameon=False)
        highest = max(float(slope.max()) for slope in slopes.values())
        lowest = min(float(slope.min()) for slope in slopes.values())
        below.set_ylim(min(-0.1, 1.15 * lowest) * max(1.0, highest / 1.5), max(1.2, 1.15 * highest))
        below.set_ylabel("what stands for the derivative")
        below.set_xlabel("latent weight" if what == "weight" else "input")
        for axes in (above, below):
            _frame(axes)
    return figure


def gallery_figure(schemes: Iterable[Scheme] | None = None) -> Any:
    """All schemes in one picture, two in a row, each with its weights and inputs."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = [kind() for kind in SCHEMES.values()] if schemes is None else list(schemes)
    rows = math.ceil(len(shown) / 2)
    figure = Figure(figsize=(14, 2.7 * rows + 0.6), layout="constrained")
    handles = [
        Line2D([], [], color=STEP_COLOUR, lw=2, label="what computes (weights: in units of the largest)"),
        Patch(facecolor=FACTOR_COLOUR, alpha=0.45, label="what stands for its derivative while training"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=11, frameon=False)
    halves = figure.subfigures(rows, 2, squeeze=False)
    for index, half in enumerate(halves.flat):
        if index >= len(shown):
            continue
        scheme = shown[index]
        half.suptitle(type(scheme).__name__, fontsize=12, fontweight="bold")
        left, right = half.subplots(1, 2, sharey=True)
        parts = ((left, _weights, "latent weight", scheme.weights), (right, _inputs, "input", scheme.activations))
        for axes, part, what, quantizer in parts:
            x, y, slope = part(scheme, 0.0)
            _draw_step(axes, x, y)
            axes.fill_between(x, slope, color=FACTOR_COLOUR, alpha=0.3, lw=0)
            axes.plot(x, slope, color=FACTOR_COLOUR, lw=1)
            axes.set_ylim(-2.2, 2.3)
            axes.set_xticks(range(-2, 3))
            axes.set_title("float" if quantizer is None else _words(quantizer), fontsize=9)
            axes.set_xlabel(what, fontsize=9)
            axes.tick_params(labelsize=8)
            _frame(axes)
    return figure


def _words(quantizer: Any) -> str:
    """The name of a quantizer, with its number of bits or its share."""
    options = [f"{key}={getattr(quantizer, key, None)!r}" for key in ("values", "per", "bits")]
    options = [option for option in options if option in repr(quantizer)]
    return f"{type(quantizer).__name__}({', '.join(options)})" if options else type(quantizer).__name__


def _draw_step(axes: Any, x: Tensor, y: Tensor) -> None:
    """Draw a function with jumps, without a line across them."""
    jumps = (y[1:] - y[:-1]).abs() > 0.05  # five times the change that a slope of one gives over one step of x
    values = y.double().clone()
    axes.plot(x, values, color=STEP_COLOUR, lw=0.8, ls=(0, (2, 2)), alpha=0.6)
    values[1:][jumps] = math.nan
    axes.plot(x, values, color=STEP_COLOUR, lw=2, zorder=3)


def _frame(axes: Any) -> None:
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.axvline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_xlim(-REACH, REACH)
    axes.spines[["top", "right"]].set_visible(False)


def run_figure(path: str | Path) -> Any:
    """The curves of a run folder, and the statistics of its binary layers.

    Raises:
        OnebitError: the folder does not contain curves, or they are damaged.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    path = expand(path)
    curves = _curves_of(path)
    layers = _read(path / "layers.csv") if (path / "layers.csv").is_file() else []
    names = list(dict.fromkeys(row["layer"] for row in layers))
    panels: list[Callable[[Any], None]] = [
        partial(_draw_parts, rows=curves, key="loss", factor=1, label="loss"),
        *(partial(_draw_parts, rows=curves, **shown) for shown in _figures_of(curves)),
    ]
    if any("val_bits_per_byte" in row for row in curves):
        panels.append(partial(_draw_line, rows=curves, key="val_bits_per_byte", label="bits per byte, validation"))
    panels.append(partial(_draw_line, rows=curves, key="learning_rate", label="learning rate"))
    colours = _colours(names)
    for key, label in LAYER_MEASURES.items():
        known = [row for row in layers if row.get(key, "") != ""]
        # A line is left out if all gradients pass, or if no latent weight reaches its limit: it would tell nothing.
        usual = {"weight_gradient": 1, "input_gradient": 1, "clipped": 0}.get(key)
        if any(row[key] != usual for row in known):
            panels.append(partial(_draw_layers, rows=known, key=key, label=label, colours=colours))
    columns = 3
    rows = math.ceil(len(panels) / columns)
    shown, across = _legend_of(names) if names else ([], 1)
    legend = (0.5 + 0.2 * math.ceil(len(shown) / across)) if names else 0.0
    figure = Figure(figsize=(13, 3.4 * rows + 0.4 + legend), layout="constrained")
    figure.suptitle(str(path), fontsize=12)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    for axes, draw in zip(grid.flat, panels, strict=False):
        draw(axes)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    if names:
        _name_layers(figure, names, colours)
    return figure


def compare_figure(runs: Mapping[str, str | Path], title: str, note: str = "") -> Any:
    """The curves of several run folders side by side: training dashed, validation solid, one colour per run.

    Args:
        runs: folders by their names in the legend.
        title: the title above all curves.
        note: a note below the title, after the explanation of the lines.

    Raises:
        OnebitError: a folder does not contain curves, or they are damaged.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = {name: _curves_of(expand(path)) for name, path in runs.items()}
    panels = [("loss", 1, "loss"), ("accuracy", 100, "accuracy in %")]
    if all("val_bits_per_byte" in row for rows in curves.values() for row in rows):
        panels.append(("bits_per_byte", 1, "bits per byte"))
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    figure.suptitle(f"{title}\nsolid lines: validation; dashed: training{note and f' ({note})'}", fontsize=11)
    most = max(row["epoch"] for rows in curves.values() for row in rows)
    grid = figure.subplots(1, len(panels))
    for axes, (key, factor, label) in zip(grid, panels, strict=True):
        for index, (name, rows) in enumerate(curves.items()):
            for part, style in (("train", "--"), ("val", "-")):
                known = [(row["epoch"], factor * row[f"{part}_{key}"]) for row in rows if f"{part}_{key}" in row]
                if known:
                    marks = _marks(len(known)) | ({"fillstyle": "none"} if part == "train" else {})
                    shown = {"label": name} if part == "val" and axes is grid[0] else {}
                    axes.plot(*zip(*known, strict=True), style, color=f"C{index}", lw=1.6, **marks, **shown)
        axes.set_title(label, fontsize=11)
        axes.set_xlabel("epoch")
        axes.set_xlim(1 - 0.04 * most, 1.04 * most)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(6, len(curves)), frameon=False)
    return figure


def _curves_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a run folder's curves."""
    if not (path / "curves.csv").is_file():
        raise OnebitError(f"[plot] {path} has no curves.csv: give a run folder that 'onebit train' wrote")
    return _read(path / "curves.csv")


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file: numbers, except for the names of layers. Empty cells stay empty."""
    try:
        with path.open(newline="") as file:
            rows = [
                {key: value if key == "layer" or value == "" else float(value) for key, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (ValueError, TypeError, csv.Error, UnicodeDecodeError) as error:
        raise OnebitError(f"[{path}] damaged: {' '.join(str(error).split())}") from None
    if not rows or any("epoch" not in row for row in rows):
        raise OnebitError(f"[{path}] has no epochs: train the run for at least one")
    return rows


def _figures_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The figures beyond the loss that an epoch has of both parts, as `_draw_parts` takes them."""
    names = [key.removeprefix("train_") for row in rows for key in row if key.startswith("train_")]
    both = [name for name in dict.fromkeys(names) if name != "loss" and f"val_{name}" in rows[0]]
    shown = {"accuracy": {"factor": 100, "label": "accuracy in %"}}
    return [{"key": name, **shown.get(name, {"factor": 1, "label": name.replace("_", " ")})} for name in both]


def _draw_parts(axes: Any, rows: Sequence[Mapping[str, Any]], key: str, factor: float, label: str) -> None:
    """Draw a metric in training and in validation."""
    for part, name, colour in (("train", "training", "0.45"), ("val", "validation", STEP_COLOUR)):
        known = [(row["epoch"], factor * row[f"{part}_{key}"]) for row in rows if row.get(f"{part}_{key}", "") != ""]
        axes.plot(*zip(*known, strict=True), color=colour, lw=2, label=name, **_marks(len(known)))
    axes.set_title(label, fontsize=11)
    axes.legend(frameon=False, fontsize=9)


def _draw_line(axes: Any, rows: Sequence[Mapping[str, Any]], key: str, label: str) -> None:
    known = [(row["epoch"], row[key]) for row in rows if row.get(key, "") != ""]
    axes.plot(*zip(*known, strict=True), color=STEP_COLOUR, lw=2, **_marks(len(known)))
    axes.set_title(label, fontsize=11)


def _draw_layers(
    axes: Any, rows: Sequence[Mapping[str, Any]], key: str, label: str, colours: Mapping[str, Any]
) -> None:
    """Draw a statistic of each layer, in %."""
    for name, colour in colours.items():
        points = [(row["epoch"], 100 * row[key]) for row in rows if row["layer"] == name]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, lw=1.5, **_marks(len(points)))
    axes.set_title(f"{label}, % of each layer's", fontsize=11)
    above = [100 * row[key] for row in rows if row[key] > 0]
    if key == "flipped" and above:
        _make_logarithmic(axes, max(above) / min(above))


def _make_logarithmic(axes: Any, span: float) -> None:
    """A logarithmic axis with plain numbers, as many as its span needs."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if span > 1000 else (1, 2, 5) if span > 10 else range(1, 10)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _marks(count: int) -> dict[str, Any]:
    """Mark each point if there are few, so that a single one is visible."""
    return {"marker": "o", "markersize": 4} if count <= 10 else {}


def _colours(names: Sequence[str]) -> dict[str, Any]:
    """One colour per layer, from the first to the last."""
    from matplotlib import colormaps

    return {name: colormaps["viridis"](0.92 * i / max(1, len(names) - 1)) for i, name in enumerate(names)}


def _legend_of(names: Sequence[str]) -> tuple[list[str], int]:
    """The layers in the legend, evenly chosen if there are many, and the number of columns they need."""
    few = len(names) <= NAMED_LAYERS
    shown = list(names) if few else [names[round(i * (len(names) - 1) / 7)] for i in range(8)]
    # 13 inches hold about 160 small letters. A line and its margins take the space of 7.
    return shown, max(1, min(8, len(shown), 160 // (7 + max(map(len, shown)))))


def _name_layers(figure: Any, names: Sequence[str], colours: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    shown, columns = _legend_of(names)
    handles = [Line2D([], [], color=colours[name], lw=2, label=name) for name in shown]
    title = (
        "layers" if len(shown) == len(names) else f"layers ({len(shown)} of {len(names)}, from the first to the last)"
    )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        title=title,
        title_fontsize=9,
        frameon=False,
    )
