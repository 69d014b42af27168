"""Run a packed model of several inputs or outputs, or one over integers, in the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError
from onebit.fileformat import PackedModel
from onebit.program import Input
from onebit.runtime.session import MEMORY_CAP, Precision, Session, engine_of, engine_options

if TYPE_CHECKING:
    from onebit.runtime.threads import ThreadPool


class TensorSession(Session):
    """A packed model that takes and gives arrays, in the engine. `load` returns it for what `onebit.TensorTask` packed.

    Several threads may share a session; their calls run one after the other.
    """

    def __init__(
        self,
        model: PackedModel,
        precision: Precision = "int8",
        threads: int | ThreadPool | None = None,
        isa: str | None = None,
        memory_cap: int = MEMORY_CAP,
        pin_threads: bool = False,
    ) -> None:
        self._engine = engine_of(model, engine_options(precision, threads, isa, memory_cap, pin_threads))
        self.program = model.program
        self._output_shapes = [model.shapes[name] for name in model.program.outputs]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the model takes: names, shapes without the batch with channels last, and whether they are integers."""
        return self.program.inputs

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """What it gives: names and shapes without the batch."""
        return dict(zip(self.program.outputs, self._output_shapes, strict=True))

    def run(self, *arrays: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Any:
        """Run the model on a batch.

        Args:
            arrays: an array for each input in their order, or a dictionary of them by name: ``(n, *shape)``, float32, integers or booleans.

        Returns:
            float32 ``(n, *shape)``; of several outputs a dictionary of them by name.

        Raises:
            DataError: an input is missing or unknown, or does not fit.

        Example:
            >>> session = onebit.load("encoder.onebit")  # doctest: +SKIP
            >>> session.run({"input_ids": ids, "attention_mask": mask})["last_hidden_state"].shape  # doctest: +SKIP
            (2, 128, 256)
        """
        flat = self._flattened(arrays)
        plain = self.program.takes_one_array or not self.program.more_inputs
        batch = flat[0].reshape(-1, *self.inputs[0].shape) if plain else np.concatenate(flat, axis=1)
        try:
            made = self._engine.run(batch).reshape(len(batch), -1)
        except ValueError as error:
            raise DataError(str(error).replace("[engine]", "[Session.run]")) from None
        ends = np.cumsum([int(np.prod(shape)) for shape in self._output_shapes])
        parts = np.split(made, ends[:-1], axis=1)
        shaped = {
            name: part.reshape(-1, *shape) for (name, shape), part in zip(self.outputs.items(), parts, strict=True)
        }
        return shaped if self.program.more_outputs else next(iter(shaped.values()))

    __call__ = run

    def _flattened(self, arrays: tuple[Any, ...]) -> list[NDArray[np.float32]]:
        """An array (n, elements) for each input."""
        names = [source.name for source in self.inputs]
        if len(arrays) == 1 and isinstance(arrays[0], Mapping):
            given = dict(arrays[0])
        elif len(arrays) == len(names):
            given = dict(zip(names, arrays, strict=True))
        else:
            raise DataError(f"[Session.run] {len(arrays)} arrays: give {', '.join(names)}, in this order or by name")
        if set(given) != set(names):
            wrong = sorted(set(given) ^ set(names), key=str)[0]
            word = "is missing" if wrong in names else "is not an input"
            raise DataError(f"[Session.run] {wrong!r} {word}: give {', '.join(names)}")
        flat = [_checked(given[source.name], source) for source in self.inputs]
        counts = {len(array) for array in flat}
        if len(counts) > 1:
            raise DataError(f"[Session.run] batches of {sorted(counts)} examples: give as many of each input")
        return flat


def _checked(array: Any, source: Input) -> NDArray[np.float32]:
    array = np.asarray(array)
    if array.shape[1:] != source.shape or array.ndim != 1 + len(source.shape):
        spelled = ", ".join(map(str, source.shape))
        raise DataError(f"[Session.run] {source.name!r} has shape {array.shape}: give (n, {spelled})")
    if array.dtype.kind not in ("iub" if source.integers else "iubf") or (
        array.dtype.kind == "u" and not source.integers
    ):
        wanted = "integers" if source.integers else "float32"
        raise DataError(f"[Session.run] {source.name!r} is {array.dtype}: give {wanted}")
    if source.integers and array.size and not (int(array.min()) >= 0 and int(array.max()) < 1 << 24):
        raise DataError(
            f"[Session.run] {source.name!r} holds {int(array.min())} to {int(array.max())}: give integers from 0"
        )
    return np.ascontiguousarray(array, np.float32).reshape(len(array), -1)
