"""A picture of the network in a packed file: its layers from input to output, with their bytes and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit.layer_costs import LayerCost, LayerCosts, layer_costs, share
from onebit.printable import printable
from onebit.repeats import Segment, common_name, segments
from onebit.runtime.session import Precision

# In inches: a line, a letter of the small size, the bars, and the gap between columns.
LINE, LETTER, BAR, GAP = 0.25, 0.078, 1.9, 0.22
SIZE, HEAD_SIZE = 8.5, 9.5
COLOURS = {"1 bit a weight": "#1f5fa8", "2 to 8 bits": "#3f9e8f", "float32": "#d9731a", "no weights": "#8a8a8a"}
# Names and ops with more letters than this are cut.
LONGEST = 44


@dataclass(frozen=True)
class _Row:
    """A line of the picture: a layer, or the common part of repeated layers.

    Args:
        name, ops, shape, bits: as text.
        group: the key of its colour.
        bytes, microseconds: those of one layer.
        times: the number of repetitions.
        places: the indices of all its layers.
    """

    name: str
    ops: str
    shape: str
    bits: str
    group: str
    bytes: float
    microseconds: float
    times: int
    places: tuple[int, ...]


def model_figure(costs: LayerCosts) -> Any:
    """Draw the result of `layer_costs`: one line per layer, with bars for its bytes and its time. A repeated block is drawn once.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    parts = segments(costs.layers)
    rows = [row for part in parts for row in _rows(costs.layers, part)]
    return _Picture(Figure, costs, parts, rows).figure


def draw_model(
    file: str | Path, threads: int = 1, precision: Precision = "int8", isa: str | None = None, seconds: float = 1.0
) -> Any:
    """Measure a packed file and draw it: `model_figure(layer_costs(...))`, with the arguments and errors of `layer_costs`."""
    import matplotlib  # noqa: F401  # a missing one is told before the measurement

    return model_figure(layer_costs(file, threads, precision, isa, seconds))


def _rows(layers: Sequence[LayerCost], part: Segment) -> list[_Row]:
    rows = []
    for offset in range(part.period):
        places = tuple(range(part.first + offset, part.end, part.period))
        same = [layers[place] for place in places]
        first = same[0]
        rows.append(
            _Row(
                name=_short(printable(common_name([layer.name for layer in same]))),
                ops=_short(" + ".join(first.ops)),
                shape=" x ".join(map(str, first.shape)),
                bits=str(first.bits or ""),
                group=_group(first.bits),
                bytes=sum(layer.bytes for layer in same) / len(same),
                microseconds=sum(layer.microseconds for layer in same) / len(same),
                times=part.times,
                places=places,
            )
        )
    return rows


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _group(bits: int) -> str:
    return "no weights" if bits == 0 else "1 bit a weight" if bits == 1 else "float32" if bits == 32 else "2 to 8 bits"


class _Picture:
    """The picture. Its coordinates are inches from the upper left corner."""

    def __init__(self, make: Any, costs: LayerCosts, parts: Sequence[Segment], rows: Sequence[_Row]) -> None:
        self._costs, self._rows = costs, rows
        self._line_of = {place: line for line, row in enumerate(rows) for place in row.places}
        skips = self._skips()
        depth = 0.3 + 0.11 * max((level for *_, level in skips), default=0)
        widths = [LETTER * max(len(text) for text in texts) for texts in zip(*map(_texts, [_HEAD, *rows]), strict=True)]
        repeated = 0.55 if any(part.times > 1 for part in parts) else 0.0
        self._spine = 0.3 + depth
        self._columns = [self._spine + 0.25 + repeated]
        for width in widths:
            self._columns.append(self._columns[-1] + width + GAP)
        number = LETTER * 17
        self._bars = [self._columns[-1], self._columns[-1] + BAR + number + GAP]
        self._width = self._bars[1] + BAR + number + 0.2
        self._top = 1.45
        height = self._top + LINE * (len(rows) + 1) + 0.1
        self.figure = make(figsize=(self._width, height))
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set(xlim=(0, self._width), ylim=(height, 0))
        self._axes.axis("off")
        self._draw_head()
        self._draw_spine(skips)
        self._draw_repeats(parts)
        for line, row in enumerate(rows):
            self._draw_row(line, row)

    def _y(self, line: float) -> float:
        """The middle of a line. The input is line -1."""
        return self._top + LINE * (line + 1)

    def _text(self, x: float, y: float, text: str, **options: Any) -> None:
        # A name may contain a dollar sign, which does not mean mathematics here.
        options = {"fontsize": SIZE, "va": "center_baseline", "parse_math": False, **options}
        self._axes.text(x, y, text, **options)

    def _draw_head(self) -> None:
        from matplotlib.patches import Patch

        costs = self._costs
        name = printable(Path(costs.file).name)
        self._text(0.3, 0.3, name, fontsize=13, fontweight="bold")
        words = f"{costs.file_bytes:,} bytes in the file; {_time(costs.microseconds)} for {costs.measured}"
        self._text(0.3, 0.58, words, fontsize=HEAD_SIZE, color="0.3")
        used = [key for key in COLOURS if any(row.group == key for row in self._rows)]
        handles: list[Any] = [Patch(color=COLOURS[key], label=key) for key in used]
        if any(row.times > 1 for row in self._rows):
            handles.append(Patch(color="0.8", label="pale: the other repetitions of a block"))
        self._axes.legend(
            handles=handles,
            loc="center left",
            bbox_to_anchor=(0.2, 0.86),
            bbox_transform=self._axes.transData,
            ncols=len(handles),
            fontsize=SIZE,
            frameon=False,
            handlelength=1.2,
            columnspacing=1.4,
        )
        y = self._y(-1) - 0.02
        for x, text in zip(self._columns, _texts(_HEAD), strict=False):
            self._text(x, y - LINE, text, fontweight="bold")
        for x, text in zip(self._bars, ("bytes in the file", "time"), strict=True):
            self._text(x, y - LINE, text, fontweight="bold")
        self._axes.plot([0.3, self._width - 0.2], [y - LINE / 2 - 0.02] * 2, color="0.75", lw=0.8)
        shape = " x ".join(map(str, costs.input_shape))
        self._text(self._columns[0], self._y(-1), f"input: {shape}" + (" tokens" if costs.kind == "text" else ""))

    def _skips(self) -> list[tuple[int, int, int]]:
        """Connections that skip lines: from a line, to a line, and their distance from the lines, 1 for the shortest. The input is line -1."""
        wanted = set()
        for row in self._rows:
            place = row.places[0]  # only of the first of repeated blocks: the others read lines further down
            line = self._line_of[place]
            for source in self._costs.layers[place].inputs:
                above = -1 if source < 0 else self._line_of[source]
                if above < line - 1:
                    wanted.add((above, line))
        skips: list[tuple[int, int, int]] = []
        for above, line in sorted(wanted, key=lambda pair: (pair[1] - pair[0], pair)):
            near = [level for a, b, level in skips if a < line and b > above]
            skips.append((above, line, 1 + max(near, default=0)))
        return skips

    def _draw_spine(self, skips: Sequence[tuple[int, int, int]]) -> None:
        x, tops = self._spine, {line for row in self._rows for line in self._reads(row)}
        for line in range(len(self._rows)):
            if line - 1 in tops and self._follows(line):
                self._axes.annotate(
                    "",
                    (x, self._y(line) - 0.05),
                    (x, self._y(line - 1) + 0.05),
                    arrowprops={
                        "arrowstyle": "-|>",
                        "lw": 0.9,
                        "color": "0.35",
                        "mutation_scale": 6,
                        "shrinkA": 0,
                        "shrinkB": 0,
                    },
                )
        for above, line, level in skips:
            out = x - 0.12 - 0.11 * level
            ys = [self._y(above) + 0.04, self._y(line) - 0.04]
            self._axes.plot([x, out, out, x], [ys[0], ys[0] + 0.05, ys[1] - 0.05, ys[1]], color="0.6", lw=0.8, zorder=0)
        self._axes.plot([x], [self._y(-1)], marker="o", ms=5, mfc="white", mec="0.3")
        for line, row in enumerate(self._rows):
            self._axes.plot([x], [self._y(line)], marker="o", ms=5.5, color=COLOURS[row.group], zorder=3)

    def _reads(self, row: _Row) -> set[int]:
        sources = (source for place in row.places for source in self._costs.layers[place].inputs)
        return {-1 if source < 0 else self._line_of[source] for source in sources}

    def _follows(self, line: int) -> bool:
        """Whether a line reads the one above it."""
        return line - 1 in self._reads(self._rows[line])

    def _draw_repeats(self, parts: Sequence[Segment]) -> None:
        line = 0
        for part in parts:
            if part.times > 1:
                top, bottom = self._y(line) - 0.1, self._y(line + part.period - 1) + 0.1
                x = self._spine + 0.28
                self._axes.plot([x + 0.06, x, x, x + 0.06], [top, top, bottom, bottom], color="0.3", lw=1.2)
                self._text(x + 0.09, (top + bottom) / 2, f"x {part.times}", fontweight="bold", fontsize=HEAD_SIZE)
                self._axes.fill_between(
                    [self._spine + 0.2, self._width - 0.2], top - 0.02, bottom + 0.02, color="0.96", lw=0, zorder=-2
                )
            line += part.period

    def _draw_row(self, line: int, row: _Row) -> None:
        y = self._y(line)
        for x, text in zip(self._columns, _texts(row), strict=False):
            self._text(x, y, text)
        most_bytes = max(other.times * other.bytes for other in self._rows)
        most_time = max(other.times * other.microseconds for other in self._rows)
        costs = self._costs
        if row.bytes:
            self._draw_bar(self._bars[0], y, row, row.bytes, most_bytes, _size(row.bytes), costs.bytes)
        self._draw_bar(self._bars[1], y, row, row.microseconds, most_time, _time(row.microseconds), costs.microseconds)

    def _draw_bar(self, x: float, y: float, row: _Row, one: float, most: float, text: str, whole: float) -> None:
        """A bar for one repetition, paler bars after it for the others, and the share of all."""
        if most:
            full = BAR / most
            self._axes.barh(y, one * row.times * full, left=x, height=0.15, color=COLOURS[row.group], alpha=0.3, lw=0)
            self._axes.barh(y, one * full, left=x, height=0.15, color=COLOURS[row.group], lw=0)
        times = f" x {row.times}" if row.times > 1 else ""
        end = x + (BAR * one * row.times / most if most else 0)
        self._text(end + 0.06, y, f"{text}{times}, {_percent(share(one * row.times, whole))}", fontsize=SIZE - 1)


_HEAD = _Row("layer", "what it does", "output", "bits", "", 0, 0, 1, ())


def _texts(row: _Row) -> tuple[str, str, str, str]:
    return row.name, row.ops, row.shape, row.bits


def _size(count: float) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def _percent(value: float) -> str:
    return f"{value:.0f} %" if value >= 0.5 else "< 1 %"


def _time(microseconds: float) -> str:
    if microseconds >= 1e3:
        return f"{microseconds / 1e3:.3g} ms"
    return f"{microseconds:.3g} µs" if microseconds >= 1 else f"{1e3 * microseconds:.0f} ns"
