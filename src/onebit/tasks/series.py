"""What a network of sensors' measurements takes and says: windows of columns to classes, or to a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from onebit.strict_json import excerpt
from onebit.task_fields import is_above, is_list, labels_fault, names_fault, whole_fault
from onebit.tasks.array_task import ArrayTask, Shape

MOST_SIDE = 1 << 24


@dataclass(frozen=True)
class SeriesTask(ArrayTask):
    """What both tasks of series share.

    Args:
        columns: the names of the columns, in the order of the features.
        length: rows of a window.
        stride: rows from the start of a window to that of the next.
        mean, std: of each column, what is taken away and what is divided by.
        target: the column that says what a row is; "" where folders say it.
    """

    columns: tuple[str, ...]
    length: int
    stride: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target: str = ""

    @property
    def input_shape(self) -> Shape:
        return (self.length, len(self.columns))

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.mean, self.std

    @classmethod
    def fault(cls, values: dict[str, Any]) -> str | None:
        columns = values.get("columns")
        if not is_list(columns) or not columns:
            return f"columns={excerpt(columns)}: needs a list of names"
        for name in ("length", "stride"):
            if fault := whole_fault(values, name, 1, MOST_SIDE):
                return fault
        for name, least in (("mean", -float("inf")), ("std", 0.0)):
            numbers = values.get(name)
            if not is_list(numbers) or len(numbers) != len(columns) or not all(is_above(n, least) for n in numbers):
                above = " above 0" if name == "std" else ""
                return f"{name}={excerpt(numbers)}: needs a finite number{above} for each of {len(columns)} columns"
        if not isinstance(values.get("target", ""), str):
            return f"target={excerpt(values['target'])}: needs a text"
        return names_fault(columns, "the list of columns", "column")


@dataclass(frozen=True)
class SeriesClassification(SeriesTask):
    """A class for each window.

    Args:
        labels: the names of the classes, in the order of the outputs.

    Example:
        >>> SeriesClassification(("x", "y"), 128, 64, (0.0, 0.0), (1.0, 1.0), labels=("rest", "walk")).input_shape
        (128, 2)
    """

    labels: tuple[str, ...] = ()

    kind: ClassVar[str] = "series-classification"

    @classmethod
    def fault(cls, values: dict[str, Any]) -> str | None:
        labels = values.get("labels")
        if not is_list(labels):
            return f"labels={excerpt(labels)}: needs a list of texts"
        return labels_fault(labels) or super().fault(values)

    def output_fault(self, shape: Shape) -> str | None:
        if shape == (len(self.labels),):
            return None
        return f"has {len(self.labels)} labels, but the program gives {list(shape)}"


@dataclass(frozen=True)
class SeriesRegression(SeriesTask):
    """A number for each window: the network's only output times `target_std` plus `target_mean`.

    Args:
        target_mean, target_std: of the numbers that the network was trained on.
    """

    target_mean: float = 0.0
    target_std: float = 1.0

    kind: ClassVar[str] = "series-regression"

    @classmethod
    def fault(cls, values: dict[str, Any]) -> str | None:
        for name, least, needs in (("target_mean", -float("inf"), ""), ("target_std", 0.0, " above 0")):
            if not is_above(values.get(name), least):
                return f"{name}={excerpt(values.get(name))}: needs a finite number{needs}"
        return super().fault(values)

    def output_fault(self, shape: Shape) -> str | None:
        return None if shape == (1,) else f"has one number as its answer, but the program gives {list(shape)}"

    def in_units(self, outputs: Any) -> Any:
        """The numbers that outputs (n, 1) stand for, (n,)."""
        return outputs[:, 0] * self.target_std + self.target_mean
