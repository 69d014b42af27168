"""Draw accuracy over the bytes of the packed file, for every network of the accuracy studies, with the line of those that no other beats.

    python benchmarks/frontier.py --out docs/frontier.png [--results benchmarks/results/accuracy]

Reads the NAME.json files that benchmarks/accuracy_study.py writes. Networks of one panel had the same images or texts and the same number of
steps; rows that were trained for longer are left out. Prints the networks on the line as a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Panel:
    """Studies with one budget.

    Args:
        title: of the panel.
        files: names of the studies' results, without their ending; those that are not there are left out.
        figure: of a run.
        factor: makes the figure readable.
        unit: of the figure.
        better: 1 where a larger figure is better, -1 where a smaller one is.
    """

    title: str
    files: tuple[str, ...]
    figure: str
    factor: float
    unit: str
    better: int


@dataclass(frozen=True)
class Network:
    """A row of a study: its name, the size of its file, the mean of its figure over seeds, and how many seeds."""

    name: str
    file_bytes: float
    figure: float
    seeds: int


ACCURACY = ("test_accuracy", 100.0, "test accuracy, %", 1)
PANELS = (
    Panel("CIFAR-10, 10,000 images, 564 steps", ("images", "resnet18-small"), *ACCURACY),
    Panel("CIFAR-10, all images, 60 epochs", ("resnet18",), *ACCURACY),
    Panel("books, 400 steps", ("text",), "validation_bits_per_byte", 1.0, "bits per byte", -1),
)
LONGER = "twice as long"
# The first whose words are all in a row's name, or else single bits.
KINDS = {
    "float": ("tab:orange", ("float",)),
    "1-bit weights and activations": ("tab:green", ("1-bit", "activations")),
    "2 and 4 bits": ("tab:purple", ("-bit", "activations")),
    "1-bit weights": ("tab:blue", ()),
}


def kind_of(name: str) -> str:
    """Which of KINDS a row is."""
    if name.startswith("float"):
        return "float"
    return next(kind for kind, (_, words) in KINDS.items() if kind != "float" and all(word in name for word in words))


def networks(panel: Panel, folder: Path) -> list[Network]:
    """The rows of a panel's studies that had its budget."""
    found = []
    for file in (folder / f"{name}.json" for name in panel.files):
        rows: dict[str, list[dict[str, Any]]] = json.loads(file.read_text()) if file.exists() else {}
        for name, runs in rows.items():
            if LONGER not in name:
                size = statistics.mean(run["file_bytes"] for run in runs)
                figure = statistics.mean(panel.factor * run[panel.figure] for run in runs)
                label = f"ResNet-18, {name}" if "resnet18" in file.stem else name
                found.append(Network(label, size, figure, len(runs)))
    return found


def frontier(found: list[Network], better: int) -> list[Network]:
    """The networks that are better than every network with a file as small or smaller, from small to large."""
    front: list[Network] = []
    for network in sorted(found, key=lambda n: (n.file_bytes, -better * n.figure)):
        if not front or better * (network.figure - front[-1].figure) > 0:
            front.append(network)
    return front


def draw_panel(axis: Any, panel: Panel, found: list[Network]) -> None:
    """Every network a point, the line through the best, and the names of those on the line and of the best float network."""
    from matplotlib.ticker import LogLocator, NullFormatter

    front = frontier(found, panel.better)
    floats = [network for network in found if kind_of(network.name.removeprefix("ResNet-18, ")) == "float"]
    named = [*front, *([max(floats, key=lambda n: panel.better * n.figure)] if floats else [])]
    for kind, (colour, _) in KINDS.items():
        points = [n for n in found if kind_of(n.name.removeprefix("ResNet-18, ")) == kind]
        axis.scatter([n.file_bytes for n in points], [n.figure for n in points], color=colour, s=18, label=kind)
    axis.step([n.file_bytes for n in front], [n.figure for n in front], where="post", color="black", linewidth=1)
    lines = []
    for number, network in enumerate(dict.fromkeys(named), 1):
        place = (network.file_bytes, network.figure)
        axis.annotate(str(number), place, xytext=(4, 5), textcoords="offset points", fontsize=9, fontweight="bold")
        lines.append(f"{number}  {network.name} ({network.figure:.{1 if panel.better > 0 else 3}f})")
    sizes = [n.file_bytes for n in found]
    axis.set_xscale("log")
    axis.set_xlim(min(sizes) / 1.3, max(sizes) * 1.5)
    axis.set(title=panel.title, xlabel="packed file", ylabel=panel.unit)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda size, _: f"{size / 1e6:g} MB" if size >= 1e6 else f"{size / 1e3:g} kB")
    axis.xaxis.set_minor_formatter(NullFormatter())
    if panel.better < 0:
        axis.invert_yaxis()  # better is up in every panel
    axis.grid(alpha=0.3, which="both")
    axis.text(0, -0.17, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=8)


def draw(panels: dict[Panel, list[Network]], out: Path) -> None:
    """The picture with a panel for each budget."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 6), squeeze=False)
    for axis, (panel, found) in zip(axes[0], panels.items(), strict=True):
        draw_panel(axis, panel, found)
    axes[0][0].legend(fontsize=8, loc="lower right")
    figure.savefig(out, dpi=90, bbox_inches="tight")
    plt.close(figure)


def table(panels: dict[Panel, list[Network]]) -> str:
    """The networks on each panel's line as Markdown."""
    lines = ["| budget | file, bytes | network | seeds | figure |", "| --- | --- | --- | --- | --- |"]
    for panel, found in panels.items():
        digits = 1 if panel.better > 0 else 3
        for n in frontier(found, panel.better):
            figure = f"{n.figure:.{digits}f} {panel.unit.replace('test accuracy, ', '')}"
            lines.append(f"| {panel.title} | {n.file_bytes:,.0f} | {n.name} | {n.seeds} | {figure} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "accuracy")
    arguments = parser.parse_args()
    panels = {panel: found for panel in PANELS if (found := networks(panel, arguments.results))}
    if not panels:
        raise SystemExit(f"no results in {arguments.results}: run benchmarks/accuracy_study.py, or give --results")
    draw(panels, arguments.out)
    print(table(panels))


if __name__ == "__main__":
    main()
