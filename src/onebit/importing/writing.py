"""Write the file of an imported model tensor by tensor, in pieces, whole or not at all."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.fileformat import FORMAT_VERSION, PackedModel, place_atomically, safetensors_header, tensor_order
from onebit.importing.census import Figures, count, count_rounding, fault
from onebit.importing.kept import Kept, KeptBytes, Planned
from onebit.importing.network import Network
from onebit.program import Program
from onebit.progress import report


def write(
    path: Path, program: Program, net: Network, task: Mapping[str, Any], trust: bool
) -> tuple[int, list[Figures]]:
    """Write a model; returns the file's size in bytes and the figures of each kind of matrix.

    Args:
        path: the file.
        program, net: see `onebit.importing.network.build`.
        task: plain JSON values.
        trust: whether to write matrices that look wrong.

    Raises:
        ForeignModelError: a tensor cannot be read, is not finite, or looks wrong.
        OSError: the file cannot be written.
    """
    planned, header = plan(program, net, task)
    starts: dict[str, int] = {}
    end = 8 + len(header)
    for name, tensor in planned.items():
        starts[name] = end
        end += tensor.nbytes
    census: dict[tuple[str, str, str], Figures] = {}

    def parts() -> Iterator[tuple[int, bytes | memoryview]]:
        yield 0, struct.pack("<Q", len(header)) + header
        for name, values in net.vectors.items():
            yield starts[name], _bytes(values)
        for kept, name, at, content in _pieces(net, census, trust):
            del kept
            yield starts[name] + at, _bytes(content)

    place_atomically(path, end, parts())
    return end, list(census.values())


def look(program: Program, net: Network, task: Mapping[str, Any], trust: bool) -> list[Figures]:
    """The figures of each kind of matrix, as `write` finds them, without writing. Raises like `write`."""
    plan(program, net, task)
    census: dict[tuple[str, str, str], Figures] = {}
    for _ in _pieces(net, census, trust):
        pass
    return list(census.values())


def plan(program: Program, net: Network, task: Mapping[str, Any]) -> tuple[dict[str, Planned], bytes]:
    """The tensors in the order of the file, and its header. All checks of a packed model are made."""
    planned = {name: Planned(name, np.float32, values.shape) for name, values in net.vectors.items()}
    for kept in net.kept:
        planned |= {tensor.name: tensor for tensor in kept.planned().values()}
    # Zeros that take no memory stand for the tensors.
    shapes = {name: np.broadcast_to(np.zeros((), t.dtype), t.shape) for name, t in planned.items()}
    model = PackedModel(program, shapes, dict(task))
    ordered = {name: planned[name] for name in tensor_order(shapes)}
    metadata = {"onebit_format": FORMAT_VERSION, "program": model.program.to_json(), "task": json.dumps(model.task)}
    return ordered, safetensors_header({name: shapes[name] for name in ordered}, metadata)


def _pieces(
    net: Network, census: dict[tuple[str, str, str], Figures], trust: bool
) -> Iterator[tuple[Kept, str, int, NDArray[Any]]]:
    """All that is to be written of the matrices, while they are counted and progress is reported."""
    total = sum(kept.matrix.rows * kept.matrix.columns for kept in net.kept)
    done = 0
    for kept in net.kept:
        part = kept.name.split(".", 2)[-1] if kept.name.startswith("blocks.") else kept.name
        figures = Figures((part, kept.matrix.kind, kept.says), tensors=1)
        figures.stored_bytes = kept.matrix.stored.nbytes
        figures.kept_bytes = sum(tensor.nbytes for tensor in kept.planned().values())
        for first, decoded in kept.matrix.pieces():
            placed = list(kept.placed(first, decoded))
            before = figures.weights
            count(figures, kept.matrix, decoded, placed)
            if isinstance(kept, KeptBytes) and isinstance(decoded, np.ndarray):
                count_rounding(figures, decoded, placed)
            for name, at, content in placed:
                yield kept, name, at, content
            done += figures.weights - before
            report("import", done, total, "weights")
        wrong = None if trust else fault(figures, kept)
        if wrong is not None:
            raise kept.matrix.fail(f"{wrong}; it was read wrong or is not trained: give --trust if it is meant so")
        census.setdefault(figures.kind, Figures(figures.kind)).merge(figures)


def _bytes(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
