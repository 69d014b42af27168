"""Find repetitions in a sequence of layers, such as the blocks of a decoder, so that a block is shown once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from onebit.layer_costs import LayerCost

_NUMBER = re.compile(r"\d+")
# The least number of layers that a repetition must save: two equal layers in a row are clearer as they are.
_LEAST_SAVED = 4


@dataclass(frozen=True)
class Segment:
    """Consecutive layers that occur several times.

    Args:
        first: the index of the first layer.
        period: the number of layers.
        times: the number of repetitions; 1 for layers that do not repeat.
    """

    first: int
    period: int
    times: int

    @property
    def end(self) -> int:
        """The index after its last repetition."""
        return self.first + self.period * self.times


def segments(layers: Sequence[LayerCost]) -> list[Segment]:
    """The whole sequence as segments. The segments that save the most layers are chosen first."""
    kinds = list(map(_kind, layers))
    return _divided(layers, kinds, 0, len(layers))


def _kind(layer: LayerCost) -> tuple[object, ...]:
    """The common properties of equal layers: all but their numbers, their time, and the layers that they read."""
    return (_NUMBER.sub("#", layer.name), layer.ops, layer.shape, layer.bits, layer.bytes)


def _divided(layers: Sequence[LayerCost], kinds: Sequence[object], first: int, end: int) -> list[Segment]:
    best = max(_candidates(kinds, first, end), key=lambda found: _worth(layers, found), default=None)
    if best is None:
        return [Segment(first, end - first, 1)] if end > first else []
    before, after = _divided(layers, kinds, first, best.first), _divided(layers, kinds, best.end, end)
    return [*before, best, *after]


def _candidates(kinds: Sequence[object], first: int, end: int) -> list[Segment]:
    found = []
    for period in range(1, (end - first) // 2 + 1):
        for start in range(first, end - 2 * period + 1):
            times = 1
            while (
                start + (times + 1) * period <= end
                and kinds[start + times * period : start + (times + 1) * period] == kinds[start : start + period]
            ):
                times += 1
            if (times - 1) * period >= _LEAST_SAVED:
                found.append(Segment(start, period, times))
    return found


def _worth(layers: Sequence[LayerCost], found: Segment) -> tuple[int, int, int, bool]:
    """A sort key: the layers saved, then as few changing numbers as possible, then a short period, then a name at the beginning."""
    saved = (found.times - 1) * found.period
    names = [layer.name for layer in layers[found.first : found.first + found.period] if layer.name]
    numbers = {tuple(_NUMBER.findall(name))[:1] for name in names}
    return saved, -len(numbers), -found.period, layers[found.first].name != ""


def common_name(names: Sequence[str]) -> str:
    """The names of one layer's repetitions as one name: a number that changes is written as a range."""
    parts = _NUMBER.split(names[0])
    numbers = zip(*([int(found) for found in _NUMBER.findall(name)] for name in names), strict=True)
    text = parts[0]
    for found, rest in zip(numbers, parts[1:], strict=True):
        least, most = min(found), max(found)
        text += (str(least) if least == most else f"{least}-{most}") + rest
    return text
