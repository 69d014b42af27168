"""A table of the converted layers of a model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from onebit.tables import lay_out


@dataclass(frozen=True)
class LayerReport:
    """The result for one layer.

    Args:
        name: its name in `model.named_modules()`.
        kind: its type before.
        converted: whether it was converted.
        reason: the reason if it was not converted; otherwise what a user should know about it.
        parameters: the number of its own parameters, including shared ones.
    """

    name: str
    kind: str
    converted: bool
    reason: str
    parameters: int


@dataclass(frozen=True)
class ConversionReport:
    """The results for all layers with parameters, in the model's order. It iterates over `LayerReport`s, and `str` is a table of them.

    Args:
        title: the line above the table.
        layers: one report per layer.
    """

    title: str
    layers: tuple[LayerReport, ...]

    @property
    def converted(self) -> tuple[str, ...]:
        """The names of the converted layers."""
        return tuple(layer.name for layer in self.layers if layer.converted)

    def __iter__(self) -> Iterator[LayerReport]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        """Rows for the table. Layers whose names differ only in numbers share a row."""
        groups: dict[tuple[str, ...], list[LayerReport]] = defaultdict(list)
        for layer in self.layers:
            state = "yes" if layer.converted else "no"
            groups[re.sub(r"\d+", "*", layer.name), layer.kind, state, re.sub(r"\d+", "*", layer.reason)].append(layer)
        rows = [("layer", "kind", "count", "parameters", "converted", "why")]
        for (name, kind, state, _), layers in groups.items():
            one = layers[0]
            total = f"{sum(layer.parameters for layer in layers):,}"
            shown = one.name if len(layers) == 1 else name
            rows.append((shown or "(the model)", kind, str(len(layers)), total, state, one.reason))
        return f"{self.title}\n{lay_out(rows, right=(2, 3))}"
