"""Which inputs a network is measured on, what it says of them, and the figures: the same for every kind of task whose inputs are arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.data.arrays import ArraySet
from onebit.data.record import DataRecord, fingerprint_files
from onebit.errors import DataError, OnebitError
from onebit.kinds.kind import Kind
from onebit.kinds.kinds import kind_of
from onebit.paths import expand
from onebit.printable import printable
from onebit.progress import track

if TYPE_CHECKING:
    from onebit.runtime.session import ArraySession
    from onebit.training import Run

# The engine's batch size.
BATCH = 64
# Of inputs in a picture.
SHOWN = 8


@dataclass(frozen=True)
class TaskFigures:
    """How good a network is at a task. `str` is a line or a few.

    Args:
        model: the run folder or the file.
        numerics: what computed the outputs and at which precision, in words.
        kind: the kind of the task.
        figures: by their names; which, hangs on the kind.
        count: the number of inputs measured.
        part: "test", or "all" if it may include inputs from training.
        seconds: the time of computing.
        notes: what a user should know, one sentence each.
    """

    model: str
    numerics: str
    kind: str
    figures: dict[str, Any]
    count: int
    part: str
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        figures = {name: _plain(value) for name, value in self.figures.items()}
        return {**vars(self), "figures": figures, "notes": list(self.notes)}

    def __str__(self) -> str:
        from onebit.kinds.kinds import KINDS

        kind = KINDS[self.kind]
        first, *more = kind.told(self.figures)
        what = f"test {kind.inputs}" if self.part == "test" else kind.inputs
        line = f"{printable(self.model)} ({self.numerics}): {first} on {self.count} {what}, {self.seconds:.1f} s"
        return "\n".join([line, *(f"  {one}" for one in more)])


def _plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value


class Held(NamedTuple):
    """Inputs to measure on, "test" or "all" if they may include inputs from training, and notes."""

    arrays: ArraySet
    part: str
    notes: list[str]


def own_part(run: Run) -> Held:
    """What a run set aside of its own data; raises OnebitError where they are not there or have changed."""
    from onebit.training.sources import check_own_data

    notes = check_own_data(run.recipe, run.known, run.path)
    splits = kind_of(run.task).divided(run.recipe.data.source, run.task, run.recipe.run.seed)
    return Held(splits.test, "test", [*notes, *splits.notes])


def part_of(data: str, task: Any, record: DataRecord | None) -> Held:
    """What of any data a network is measured on: their test part where they have one or the network was trained on them, or else all.

    Args:
        data: a folder, a file or the name of a data set.
        task: of the network.
        record: of its training; None: not known.

    Raises:
        DataError: the data cannot be used, or contain a class that the network does not know.
    """
    kind = kind_of(task)
    known = record is not None and record.data in (f"name {data}", fingerprint_files(data, kind.suffixes))
    splits = kind.divided(data, task, record.seed if record is not None else 0)
    if known or splits.own_test:
        return Held(splits.test, "test", list(splits.notes))
    why = "the network has no record of what it was trained on"
    if record is not None:
        why = "it is not what the network was trained on, or has changed since"
    both = joined(splits.train, splits.test)
    note = f"{data}: {why}. All {len(both)} {kind.inputs} are measured and may include some from training"
    return Held(both, "all", [note, *splits.notes])


def joined(first: ArraySet, second: ArraySet) -> ArraySet:
    """Two sets as one."""
    groups = None if first.groups is None or second.groups is None else first.groups + second.groups
    return replace(
        first,
        inputs=np.concatenate([first.inputs, second.inputs]),
        targets=np.concatenate([first.targets, second.targets]),
        truth=None if first.truth is None or second.truth is None else [*first.truth, *second.truth],
        groups=groups,
    )


Outputs = Iterator[tuple[NDArray[np.float32], ArraySet]]


def outputs_of_session(session: ArraySession, arrays: ArraySet) -> Outputs:
    """The outputs of a packed network, a batch at a time."""
    for first in track(range(0, len(arrays), BATCH), "measure", "inputs", BATCH, len(arrays)):
        part = arrays.take(np.arange(first, min(first + BATCH, len(arrays))))
        yield session(part.inputs), part


def measured(model: str, numerics: str, task: Any, held: Held, outputs: Callable[[ArraySet], Outputs]) -> TaskFigures:
    """The figures of a network on what is measured."""
    metrics = kind_of(task).metrics(task)
    start = time.perf_counter()
    for made, part in outputs(held.arrays):
        metrics.add(made, part.answers, part.groups)
    figures = metrics.figures()
    seconds = time.perf_counter() - start
    return TaskFigures(model, numerics, task.kind, figures, len(held.arrays), held.part, seconds, tuple(held.notes))


def shown(kind: Kind, data: str | None, task: Any, run: Run | None, record: DataRecord | None) -> ArraySet:
    """A few inputs for a picture: of a file it alone, of data of what is measured, drawn by a fixed seed."""
    path = None if data is None else expand(data)
    if path is not None and path.is_file() and path.suffix.lower() in kind.suffixes:
        return kind.files([str(path)], task)
    if data is None and run is None:
        raise DataError("[plot] a packed file does not record where its data are: name the data, or a file")
    held = own_part(run) if data is None and run is not None else part_of(str(data), task, record)
    order = np.random.default_rng(0).permutation(len(held.arrays))
    return held.arrays.take(np.sort(order[:SHOWN]))


def predictions_figure(
    name: str | Path, data: str | None = None, threads: int | None = None, precision: Any = "int8"
) -> Any:
    """A Matplotlib figure of a few inputs and what a network says of them.

    Args:
        name: a run folder or a packed file.
        data: a file, a folder or the name of a data set; None: what the run set aside.
        threads, precision: of the engine; see `onebit.load`.

    Raises:
        OnebitError: the run or the file cannot be read, or is of a kind of task without such a picture.
        DataError: the data cannot be used.
    """
    from onebit.fileformat import load_model
    from onebit.kinds.kinds import KINDS
    from onebit.pretrained import find
    from onebit.runtime.session import ArraySession, load

    path = find(name)
    if path.is_dir():
        from onebit.training import load_run
        from onebit.training.arrays import outputs_of

        run: Run | None = load_run(path)
        assert run is not None
        task: Any = run.task
        record, model = run.record, run.model
        compute: Callable[[ArraySet], Any] = lambda arrays: outputs_of(model, arrays, task)  # noqa: E731
    else:
        session = load(path, precision, threads)
        from onebit.runtime.tensors import TensorSession

        if isinstance(session, TensorSession):
            raise OnebitError(f"[{path}] takes tensors: onebit does not know what its answers mean")
        run, task = None, session.task
        training = load_model(path).training
        record = None if training is None else DataRecord.from_json(training)
        if isinstance(session, ArraySession):
            packed = session
            compute = lambda arrays: outputs_of_session(packed, arrays)  # noqa: E731
    kind = KINDS.get(getattr(task, "kind", ""))
    if kind is None:
        raise OnebitError(
            f"[plot] {name} is of a kind of task without a picture of predictions: {', '.join(KINDS)} have one"
        )
    arrays = shown(kind, data, task, run, record)
    return kind.draw(arrays, np.concatenate([outputs for outputs, _ in compute(arrays)]), task)
