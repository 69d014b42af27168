"""The cost of each layer of a packed file: its bytes in the file, and its measured time in the engine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onebit.errors import OnebitError
from onebit.fileformat import PackedModel, load_model
from onebit.ops import OPS
from onebit.pretrained import find
from onebit.printable import printable
from onebit.program import Step
from onebit.random_inputs import random_inputs
from onebit.runtime.session import ArraySession, Precision, load
from onebit.runtime.tensors import TensorSession
from onebit.runtime.text import TextSession
from onebit.tables import lay_out

__all__ = ["LayerCost", "LayerCosts", "layer_costs"]

# The least number of values of a median, however slow the model is.
_LEAST_RUNS = 3
_HEADINGS = ("layer", "ops", "output", "bits", "bytes", "%", "microseconds", "%")


@dataclass(frozen=True)
class LayerCost:
    """One layer: steps that the engine runs as one, or that belong to one layer of the model.

    Args:
        name: the name of the layer, from its tensors; "" if it has none.
        ops: the ops of its steps, in order.
        shape: the shape of its output, per token for tokens.
        bits: the number of bits per weight; 0 if it has no weights.
        bytes: the size of its tensors in the file. A tensor shared with a layer above counts there.
        microseconds: its time, the median of several runs.
        inputs: the indices of the layers that it reads; -1 is the model's input.
    """

    name: str
    ops: tuple[str, ...]
    shape: tuple[int, ...]
    bits: int
    bytes: int
    microseconds: float
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class LayerCosts:
    """The result of `layer_costs`. `str` is a table.

    Args:
        file, file_bytes: the file's path and size.
        kind: its kind of input.
        isa, precision, threads: the engine's.
        input_shape: the shape of an example; (context,) for a language model.
        position: the number of tokens before the measured one; None for images.
        layers: the layers, from input to output.
    """

    file: str
    file_bytes: int
    kind: Literal["images", "text"]
    isa: str
    precision: str
    threads: int
    input_shape: tuple[int, ...]
    position: int | None
    layers: tuple[LayerCost, ...]

    @property
    def bytes(self) -> int:
        """Of all layers."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def microseconds(self) -> float:
        """Of all layers."""
        return sum(layer.microseconds for layer in self.layers)

    @property
    def measured(self) -> str:
        """What the time is of, in words."""
        what = "an image" if self.position is None else f"a token after {self.position} others"
        return f"{what}, {self.isa}, {self.precision}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        rows = [_HEADINGS]
        for layer in self.layers:
            shape, bits = " x ".join(map(str, layer.shape)), str(layer.bits or "")
            shares = (share(layer.bytes, self.bytes), share(layer.microseconds, self.microseconds))
            cost = (f"{layer.bytes:,}", f"{shares[0]:.1f}", f"{layer.microseconds:.1f}", f"{shares[1]:.1f}")
            rows.append((layer.name, " + ".join(layer.ops), shape, bits, *cost))
        end = f"{self.bytes:,} bytes of {self.file_bytes:,} in the file; {self.microseconds:,.1f} microseconds for {self.measured}"
        return f"{printable(self.file)}\n{lay_out(rows, right=(3, 4, 5, 6, 7))}\n{end}"


def share(part: float, whole: float) -> float:
    """In %."""
    return 100 * part / whole if whole else 0.0


def layer_costs(
    file: str | Path,
    threads: int = 1,
    precision: Precision = "int8",
    isa: str | None = None,
    seconds: float = 1.0,
) -> LayerCosts:
    """Measure the bytes and the time of each layer of a packed file, for an image or for a token in the middle of a text.

    Args:
        file: a `.onebit` file, or the name of one that comes with the package.
        threads, precision, isa: see `onebit.load`.
        seconds: the time for the measurement, which takes at least a few runs.

    Raises:
        FormatError: the file is damaged, foreign or of an unknown version.
        OnebitError: an argument is out of range, or the engine cannot run the file.

    Example:
        >>> max(layer_costs("books", seconds=0.1).layers, key=lambda layer: layer.bytes).name
        'embedding.tokens'
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise OnebitError(f"[layer_costs] seconds={seconds:g}: use a number above 0")
    path = find(file)
    model = load_model(path)
    session = load(path, precision, threads, isa)
    plan, times = session.plan(), _medians(session, seconds)
    lines = _Lines(model, [line["value"] for line in plan])
    layers = [lines.cost(place, 1e-3 * nanoseconds) for place, nanoseconds in enumerate(times)]
    return LayerCosts(
        file=str(path),
        file_bytes=path.stat().st_size,
        kind="text" if isinstance(session, TextSession) else "images",
        isa=session.isa,
        precision=session.precision,
        threads=session.threads,
        input_shape=tuple(model.program.input_shape),
        position=_position(session) if isinstance(session, TextSession) else None,
        layers=tuple(_joined(layers)),
    )


class _Lines:
    """The lines of the engine's plan, and the program's steps in each of them.

    Args:
        values: the value that each line computes.
    """

    def __init__(self, model: PackedModel, values: list[str]) -> None:
        self._model = model
        self._made = {value: place for place, value in enumerate(values)}
        self._values = values
        self._steps = {step.output: step for step in model.program.steps}
        self._counted: set[str] = set()  # tensors
        self._inside: dict[str, int] = {}  # a value to the place of the line whose steps make it

    def cost(self, place: int, microseconds: float) -> LayerCost:
        """The cost of the line at an index. Call it for one line after the other."""
        found: list[Step] = []
        inputs: set[int] = set()
        self._collect(self._values[place], place, found, inputs)
        tensors = [name for step in found for name in step.tensors.values()]
        fresh = [name for name in dict.fromkeys(tensors) if name not in self._counted]
        self._counted.update(fresh)
        shape = self._model.shapes[self._values[place]]
        return LayerCost(
            name=next((layer for layer in map(_layer_of, tensors) if layer), ""),
            ops=tuple(step.op for step in found),
            shape=tuple(shape[1:] if self._model.program.tokens else shape),
            bits=max(map(_bits, found), default=0),
            bytes=sum(self._model.tensors[name].nbytes for name in fresh),
            microseconds=microseconds,
            inputs=tuple(sorted(inputs)),
        )

    def _collect(self, value: str, place: int, found: list[Step], inputs: set[int]) -> None:
        """The steps that compute a value from the values of other lines, in order."""
        step = self._steps[value]
        self._inside[value] = place
        for source in step.inputs:
            if source not in self._steps:
                inputs.add(-1)
            elif source in self._made:
                inputs.add(self._made[source])
            elif source not in self._inside:
                self._collect(source, place, found, inputs)
            elif self._inside[source] != place:
                inputs.add(self._inside[source])
        found.append(step)


def _layer_of(tensor: str) -> str:
    """The layer in a tensor's name; "" for constants, which are named after their step."""
    layer = tensor.rpartition(".")[0]
    return "" if layer[:1] == "v" and layer[1:].isdigit() else layer


def _bits(step: Step) -> int:
    """The number of bits per weight of a step; 0 if it has no weights. Scales and shifts are not weights."""
    if "weight" not in step.tensors:
        return 0
    binary = any(tensor.role == "weight" and tensor.dtype == np.uint8 for tensor in OPS[step.op].tensors)
    return len(step.attributes.get("planes", (1,))) if binary else 32


def _joined(lines: Iterable[LayerCost]) -> list[LayerCost]:
    """Join the lines of one layer: steps of the same name, a normalisation with its scale and shift, a branch's scale with its sum."""
    layers: list[LayerCost] = []
    places: list[int] = []  # of each line among the layers
    readers: dict[int, int] = {}
    lines = list(lines)
    for line in lines:
        for place in line.inputs:
            readers[place] = readers.get(place, 0) + 1
    for place, line in enumerate(lines):
        inputs = {places[source] if source >= 0 else -1 for source in line.inputs}
        before = layers[-1] if layers else None
        if before is not None and place - 1 in line.inputs and readers[place - 1] == 1 and _belong(before, line):
            inputs = (inputs - {len(layers) - 1}) | set(before.inputs)
            layers[-1] = replace(
                line,
                name=before.name or line.name,
                ops=before.ops + line.ops,
                bits=max(before.bits, line.bits),
                bytes=before.bytes + line.bytes,
                microseconds=before.microseconds + line.microseconds,
                inputs=tuple(sorted(inputs)),
            )
        else:
            layers.append(replace(line, inputs=tuple(sorted(inputs))))
        places.append(len(layers) - 1)
    return layers


def _belong(before: LayerCost, line: LayerCost) -> bool:
    if before.name:
        return before.name == line.name
    pair = (before.ops[-1], line.ops[0])
    normalizations = ("normalize", "group_normalize", "rms_normalize")
    return pair == ("scale", "add") or (pair[0] in normalizations and pair[1] == "scale_shift")


def _position(session: TextSession) -> int:
    """The position of the measured token: the middle of the context."""
    return session.context // 2


def _medians(session: ArraySession | TextSession | TensorSession, seconds: float) -> list[float]:
    """Nanoseconds of each line of the plan, the median of several runs."""
    run = _token_run(session) if isinstance(session, TextSession) else _image_run(session)
    engine = session._engine
    run()
    samples: list[list[int]] = []
    end = time.perf_counter() + seconds
    while len(samples) < _LEAST_RUNS or time.perf_counter() < end:
        engine.time_nodes()
        run()
        samples.append(engine.nanoseconds())
    return [statistics.median(values) for values in zip(*samples, strict=True)]


def _image_run(session: ArraySession | TensorSession) -> Callable[[], object]:
    if isinstance(session, TensorSession):
        batch = random_inputs(session.program, 1)
        return lambda: session.run(batch)
    pixels = np.random.default_rng(0).integers(0, 256, (1, *session.program.input_shape), np.uint8)
    return lambda: session(pixels)


def _token_run(session: TextSession) -> Callable[[], object]:
    position, sequence = _position(session), session.sequence()
    ids = np.random.default_rng(0).integers(0, session.tokenizer.size, position + 1).astype(np.int32)
    if position:
        sequence.feed(ids[:position])

    def run() -> None:
        sequence.cut(position)
        sequence.feed(ids[position:])

    return run
