"""What a classifier of texts takes and says: tokens to classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from onebit.strict_json import excerpt
from onebit.task_fields import is_list, labels_fault, whole_fault
from onebit.tasks.array_task import ArrayTask, Shape


@dataclass(frozen=True)
class TextClassification(ArrayTask):
    """A class for each text, read at its last token.

    Args:
        labels: the names of the classes, in the order of the outputs.
        vocabulary: the WordPiece tokens over bytes, a line each.
        context: the most tokens that are looked at at once.
        text_column, label_column: of CSV files.
        unit: what of a text file is one text, "file" or "paragraph".
        alphabet: of the vocabulary, "bytes"; see docs/program.md.

    Example:
        >>> TextClassification(("ham", "spam"), "[PAD]", 64).input_shape
        (64,)
    """

    labels: tuple[str, ...]
    vocabulary: str
    context: int
    text_column: str = "text"
    label_column: str = "label"
    unit: str = "file"
    alphabet: str = "bytes"

    kind: ClassVar[str] = "text-classification"
    tokens: ClassVar[bool] = True

    @property
    def input_shape(self) -> Shape:
        return (self.context,)

    @classmethod
    def fault(cls, values: dict[str, Any]) -> str | None:
        labels = values.get("labels")
        if not is_list(labels):
            return f"labels={excerpt(labels)}: needs a list of texts"
        for name in ("vocabulary", "text_column", "label_column"):
            if not isinstance(values.get(name), str):
                return f"{name}={excerpt(values.get(name))}: needs a text"
        if values.get("alphabet") != "bytes":
            return f"alphabet={excerpt(values.get('alphabet'))}: use 'bytes'"
        if values.get("unit") not in ("file", "paragraph"):
            return f"unit={excerpt(values.get('unit'))}: use 'file' or 'paragraph'"
        return labels_fault(labels) or whole_fault(values, "context", 1, 1 << 24)

    def output_fault(self, shape: Shape) -> str | None:
        if shape == (self.context, len(self.labels)):
            return None
        return f"has {len(self.labels)} labels for each of {self.context} tokens, but the program gives {list(shape)}"
