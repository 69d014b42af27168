"""Finds, before a file is written, what loading it would refuse: then the trained model can still be changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import PackError
from onebit.fileformat import PackedModel
from onebit.images import ImageTask
from onebit.printable import one_line
from onebit.program import Program, Shape
from onebit.tasks.array_task import ArrayTask
from onebit.tasks.tensor_task import TensorTask
from onebit.text import TextTask

Task = ImageTask | TextTask | ArrayTask | TensorTask


def check_task(task: object) -> None:
    """Refuse what is not a task, and labels that are not texts of their own.

    Raises:
        PackError: with what is wrong and what to give.
    """
    if not isinstance(task, Task):
        raise PackError(
            f"[pack] task is of type {type(task).__name__}: give an onebit.ImageTask, an onebit.TextTask or an onebit.TensorTask"
        )
    if isinstance(task, (ArrayTask, TensorTask)):
        return  # has checked its names itself
    if isinstance(task, ImageTask):
        _check_names("label", task.labels)
    else:
        _check_names("token", task.vocabulary)
        broken = next((token for token in task.vocabulary if "\n" in token), None)
        if broken is not None:
            raise PackError(
                f"[pack] the token {broken!r} holds a line end: a file has one token in each line; leave it out"
            )


def _check_names(what: str, names: Iterable[object]) -> None:
    if not isinstance(names, (list, tuple)):
        raise PackError(
            f"[pack] {what}s are {_short(names)} of type {type(names).__name__}: give a tuple of texts, as in ('cat', 'dog')"
        )
    seen = set()
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise PackError(f"[pack] {what} {index} is {_short(name)} of type {type(name).__name__}: give a text")
        if name in seen:
            raise PackError(f"[pack] the {what} {_short(name)} is there twice: give each output another name")
        if "\0" in name or not _is_unicode(name):
            raise PackError(f"[pack] {what} {index}, {_short(name)}, holds a NUL or half a surrogate pair: rename it")
        seen.add(name)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked(program: Program, tensors: dict[str, NDArray[Any]], task: Task) -> PackedModel:
    """The packed model of a program and a task, with the checks of loading: the JSON read back, the task against the program, and the engine's
    own checks.

    Args:
        program, tensors: of a traced model.
        task: as `check_task` has let it through.

    Raises:
        PackError: with what is wrong.
    """
    try:
        outputs = program.shapes(tensors)[program.output]
        _check_outputs(outputs, task)
        values = json.loads(json.dumps(task.to_json()))
        model = PackedModel(Program.from_json(program.to_json()), tensors, values)
        # Of several tensors the program alone says what they are.
        same = isinstance(task, TensorTask) or json.loads(json.dumps(type(task).from_json(values).to_json())) == values
    except PackError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise PackError(f"[pack] the file could not be loaded: {one_line(error)}") from None
    if not same:
        raise PackError("[pack] the task does not come back from a file as it is: use plain texts and numbers")
    _check_engine(model)
    return model


def _check_outputs(outputs: Shape, task: Task) -> None:
    if isinstance(task, TextTask):
        if outputs[-1] != len(task.vocabulary):
            raise PackError(
                f"[pack] the model gives {outputs[-1]} logits for a vocabulary of {len(task.vocabulary)} tokens"
            )
    elif isinstance(task, TensorTask):
        return  # takes whatever a model gives
    elif isinstance(task, ArrayTask):
        fault = task.output_fault(outputs)
        if fault is not None:
            raise PackError(f"[pack] the task {fault}: give a task that fits the model")
    elif outputs != (len(task.labels),):
        raise PackError(
            f"[pack] the model's output has shape {outputs} for an image, but the task names {len(task.labels)} labels: "
            "give a label for each output"
        )


def _check_engine(model: PackedModel) -> None:
    try:
        from onebit._engine import Decoder, Engine
    except ImportError:
        return  # an installation without the engine can pack all the same
    runner = Decoder if model.program.tokens else Engine
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in model.tensors.items()}
    try:
        # The machine that runs the file decides how much memory the activations may take.
        runner(model.program.to_json(), tensors, "int8", 1, "scalar", memory_cap=(1 << 62) - 1)
    except MemoryError:
        return
    except ValueError as error:
        raise PackError(f"[pack] the engine would not run the file: {one_line(error)}") from None
