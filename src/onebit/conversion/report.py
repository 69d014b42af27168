"""What became of the layers of a model, as a table."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from onebit.tables import lay_out


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    Args:
        name: as `model.named_modules()` gives it.
        kind: the type it had.
        converted: whether it has another form now.
        reason: why it was not converted; for a converted one, a note.
        parameters: the number of its own, shared ones included.
    """

    name: str
    kind: str
    converted: bool
    reason: str
    parameters: int


@dataclass(frozen=True)
class ConversionReport:
    """What became of every layer with parameters, in the model's order. Iterating gives `LayerReport`s; `str` a table of them.

    Args:
        title: the line above the table.
        layers: one for each.
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
        """Layers that differ in the numbers in their names only share a line."""
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
