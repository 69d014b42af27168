"""What a packed model says of one file, in words and as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from onebit.printable import printable


class Answer(Protocol):
    """What the command prints for a file: `str` is a line, or several of which all but the first are indented."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        ...


@dataclass(frozen=True)
class Labels:
    """The most probable labels, the most probable first.

    Args:
        labels: each with its probability.
    """

    labels: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"labels": [{"label": label, "probability": probability} for label, probability in self.labels]}

    def __str__(self) -> str:
        return ", ".join(f"{printable(label)} {100 * probability:.1f} %" for label, probability in self.labels)
