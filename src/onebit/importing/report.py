"""What an import says: the model, its tokenizer, and each kind of tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit.importing.census import Figures
from onebit.printable import printable
from onebit.tables import lay_out


@dataclass(frozen=True)
class ImportReport:
    """The result of `import_model`.

    Args:
        source: the file or folder.
        out: the file that was written; None if nothing was.
        name: as the file calls the model.
        architecture: its sizes, in words.
        context: the most tokens of a text, and those that the model was made for.
        rotary: its positions, in words.
        tokenizer: its tokenizer, in words.
        template: whether it has a template for chats.
        notes: what was assumed or left out.
        kinds: figures of each kind of matrix.
        bytes: of the file that was written.
    """

    source: Path
    out: Path | None
    name: str
    architecture: str
    context: tuple[int, int]
    rotary: str
    tokenizer: str
    template: bool
    notes: tuple[str, ...]
    kinds: tuple[Figures, ...]
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "source": str(self.source),
            "out": None if self.out is None else str(self.out),
            "name": self.name,
            "architecture": self.architecture,
            "context": self.context[0],
            "model_context": self.context[1],
            "rotary": self.rotary,
            "tokenizer": self.tokenizer,
            "chat_template": self.template,
            "notes": list(self.notes),
            "kinds": [figures.to_dict() for figures in self.kinds],
            "bytes": self.bytes,
        }

    def __str__(self) -> str:
        used, made = self.context
        lines = [
            f"{printable(self.name or self.source.name)}",
            f"  {self.architecture}",
            f"  context: {used:,} tokens" + (f" of the {made:,} that it was made for" if used < made else ""),
            f"  positions: {self.rotary}",
            f"  tokenizer: {self.tokenizer}; {'with' if self.template else 'without'} a chat template",
            *(f"  note: {printable(note)}" for note in self.notes),
            "",
            lay_out([_HEADING, *map(_row, self.kinds), _total(self.kinds)], right=range(3, 10)),
        ]
        if self.out is not None:
            lines += ["", f"wrote {printable(self.out)}, {self.bytes / 1e6:,.1f} MB"]
        return "\n".join(lines)


_HEADING = ["part", "stored", "kept", "tensors", "weights", "bits", "zeros", "above 0", "scales", "error"]


def _row(figures: Figures) -> list[str]:
    few = figures.kind[2] in ("bits", "two bits", "ternary")
    scales = f"{figures.least_scale:.2g} to {figures.most_scale:.2g}" if math.isfinite(figures.least_scale) else ""
    return [
        *figures.kind,
        f"{figures.tensors:,}",
        f"{figures.weights:,}",
        f"{figures.bits_per_weight:.2f}",
        f"{figures.zero_share:.1%}" if few and figures.kind[2] != "bits" else "",
        f"{figures.positive_share:.1%}" if few else "",
        scales,
        "" if figures.error is None else f"{figures.error:.2%}",
    ]


def _total(kinds: tuple[Figures, ...]) -> list[str]:
    weights, size = sum(f.weights for f in kinds), sum(f.kept_bytes for f in kinds)
    bits = 8 * size / max(weights, 1)
    return ["all", "", "", f"{sum(f.tensors for f in kinds):,}", f"{weights:,}", f"{bits:.2f}", "", "", "", ""]
