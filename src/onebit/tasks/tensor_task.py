"""The task of a model that takes and gives arrays, and means nothing more by them: encoders of text, models of several inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from onebit.errors import DataError, shown
from onebit.task_fields import MAX_SIDE

Kind = Literal["numbers", "integers", "mask", "padding"]


@dataclass(frozen=True)
class TensorInput:
    """An input of a model.

    Args:
        name: that of the argument of the model's forward.
        shape: as the model takes it, without the batch: (features,), (time, features), (channels, height, width).
        kind: ``"numbers"``; ``"integers"``: tokens and classes, (time,), which embeddings read; ``"mask"``: (time,), 1 where a position counts and 0
            where it is padding; ``"padding"``: (time,), the other way round, as PyTorch's `src_key_padding_mask`.

    Raises:
        DataError: a name, a shape or a kind that cannot be.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind = "numbers"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise DataError(
                f"[TensorInput] name={shown(self.name)}: give the name of an argument of the model's forward"
            )
        sides = list(self.shape) if isinstance(self.shape, (list, tuple)) else []
        fits = 1 <= len(sides) <= 4 and all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides)
        if not fits or math.prod(sides) >= 1 << 31:
            raise DataError(f"[TensorInput] shape={shown(self.shape)}: needs 1 to 4 integers from 1, without the batch")
        if self.kind not in get_args(Kind):
            raise DataError(f"[TensorInput] kind={shown(self.kind)}: use one of {', '.join(map(repr, get_args(Kind)))}")
        if self.kind != "numbers" and len(sides) != 1:
            raise DataError(f"[TensorInput] shape={shown(self.shape)} with kind={self.kind!r}: needs one axis, (time,)")
        object.__setattr__(self, "shape", tuple(sides))


@dataclass(frozen=True)
class TensorTask:
    """The task of a model that takes and gives arrays. `onebit.load` returns an `TensorSession` of such a file.

    Args:
        inputs: those that the packed model takes, by the names of the arguments of its forward. Other arguments keep their defaults.
        outputs: the names of what it gives: of a model that returns a dictionary, those of its entries that are wanted; of one that returns a tuple,
            a name for each of its first tensors. By default all tensors, with their own names or `output`, `output1` and so on.

    Raises:
        DataError: no input, or a name twice.

    Example:
        >>> task = onebit.TensorTask((onebit.TensorInput("input_ids", (128,), "integers"), onebit.TensorInput("attention_mask", (128,), "mask")))
        >>> [source.name for source in task.inputs]
        ['input_ids', 'attention_mask']
    """

    inputs: tuple[TensorInput, ...]
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.inputs, (list, tuple)) or not self.inputs:
            raise DataError(f"[TensorTask] inputs={shown(self.inputs)}: give a tuple of onebit.TensorInput")
        for source in self.inputs:
            if not isinstance(source, TensorInput):
                raise DataError(f"[TensorTask] an input of type {type(source).__name__}: give an onebit.TensorInput")
        if isinstance(self.outputs, str) or not all(isinstance(name, str) and name for name in self.outputs):
            raise DataError(f"[TensorTask] outputs={shown(self.outputs)}: give a tuple of names")
        for what, names in (("inputs", [source.name for source in self.inputs]), ("outputs", list(self.outputs))):
            twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
            if twice is not None:
                raise DataError(f"[TensorTask] {what} name {twice!r} twice: give each another name")
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values: the program itself says what it takes and gives."""
        return {"kind": "tensors"}
