"""The picture of a classifier's confidence: how often answers of each confidence were right."""

from __future__ import annotations

from typing import Any

from onebit.errors import OnebitError
from onebit.evaluation import ImageFigures, TextFigures
from onebit.printable import printable

RIGHT, MISSING = "#1f5fa8", "#d9731a"


def reliability_figure(figures: ImageFigures | TextFigures) -> Any:
    """Draw accuracy over confidence, and how many answers had each confidence.

    Args:
        figures: of a classifier of images, from `onebit.evaluate`.

    Returns:
        A Matplotlib figure.

    Raises:
        OnebitError: the figures are of a language model.

    Source: Guo et al. (arXiv 1706.04599), figure 1.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    if isinstance(figures, TextFigures):
        raise OnebitError(f"[plot] {figures.model} is a language model: give a classifier of images")
    found = figures.reliability
    bins = len(found.counts)
    edges = [(i + 0.5) / bins for i in range(bins)]
    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot((0, 1), (0, 1), "--", color="0.6", label="as sure as right")
    filled = [i for i in range(bins) if found.counts[i]]
    width = 0.92 / bins
    above.bar([edges[i] for i in filled], [found.accuracy[i] for i in filled], width, color=RIGHT, label="accuracy")
    apart = [found.confidence[i] - found.accuracy[i] for i in filled]
    above.bar(
        [edges[i] for i in filled],
        apart,
        width,
        bottom=[found.accuracy[i] for i in filled],
        fill=False,
        edgecolor=MISSING,
        hatch="//",
        label="from accuracy to confidence",
    )
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1.02)
    above.set_title(
        f"{printable(figures.model)}\nexpected calibration error {100 * figures.calibration_error:.1f} points",
        fontsize=11,
    )
    below.bar(edges, [count / figures.images for count in found.counts], width, color="0.55")
    below.set_ylabel("answers")
    below.set_xlabel("confidence")
    below.set_xlim(0, 1)
    for axes in (above, below):
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure
