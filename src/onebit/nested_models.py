"""One file with a model for each number of planes: which tensors belong to which, and where each model ends in the file.

The key `planes` of a file's metadata says it, and `program:1`, `program:2`, ... hold the smaller programs. docs/program.md has their form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import FormatError
from onebit.program import Program
from onebit.strict_json import excerpt, parse

KEY = "planes"
MOST_PLANES = 8
# Joined tensors are copies. A file of P planes has at most P of each.
_MOST_COPIES = 8

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class NestedModels:
    """What a file with several numbers of planes says of them.

    Args:
        planes: the number of planes of the whole model.
        joined: tensors that are made of the rows of several tensors of the file, one part after the other.
        smaller: the models of fewer planes, rising: the number of planes, and the byte of the data at which the model ends.
    """

    planes: int
    joined: Mapping[str, tuple[str, ...]]
    smaller: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, metadata: Mapping[str, str], size: int) -> NestedModels | None:
        """Of a file's metadata; None if the file has one model. `size`: bytes of its data. Raises FormatError."""
        if KEY not in metadata:
            return None
        tree = parse(metadata[KEY], KEY)
        if not isinstance(tree, dict) or set(tree) != {"planes", "joined", "smaller"}:
            raise _fault("needs an object of planes, joined and smaller")
        planes, joined, smaller = tree["planes"], tree["joined"], tree["smaller"]
        if type(planes) is not int or not 2 <= planes <= MOST_PLANES:
            raise _fault(f"planes: needs an integer from 2 to {MOST_PLANES}")
        if not isinstance(joined, dict) or not isinstance(smaller, list) or not smaller:
            raise _fault("joined needs an object, and smaller a list of at least one model")
        for name, parts in joined.items():
            several = isinstance(parts, list) and 2 <= len(parts) <= MOST_PLANES
            if not several or not all(isinstance(part, str) for part in parts):
                raise _fault(f"joined {excerpt(name)}: needs 2 to {MOST_PLANES} names of tensors")
        found: list[tuple[int, int]] = []
        for index, one in enumerate(smaller):
            if not isinstance(one, dict) or set(one) != {"planes", "end"}:
                raise _fault(f"smaller[{index}] needs an object of planes and end")
            least, start = found[-1] if found else (0, 0)
            if type(one["planes"]) is not int or not least < one["planes"] < planes:
                raise _fault(f"smaller[{index}].planes: needs an integer from {least + 1} to {planes - 1}")
            if type(one["end"]) is not int or not start <= one["end"] <= size:
                raise _fault(f"smaller[{index}].end: needs an integer from {start} to {size}")
            if f"program:{one['planes']}" not in metadata:
                raise _fault(f"the metadata lacks 'program:{one['planes']}'")
            found.append((one["planes"], one["end"]))
        return cls(planes, {name: tuple(parts) for name, parts in joined.items()}, tuple(found))

    def with_joined(self, stored: Mapping[str, NDArray[Any]], size: int, whole: bool) -> Arrays:
        """The tensors of a file, with those that are joined.

        Args:
            stored: the tensors that are in the file, or in its part for a smaller model.
            size: bytes of the data of the whole file.
            whole: refuse a joined tensor with a part that is not there, rather than leave it out.

        Raises:
            FormatError: a name or a part does not fit.
        """
        tensors, taken = dict(stored), 0
        for name, parts in self.joined.items():
            where = f"joined {excerpt(name)}"
            if name in stored:
                raise _fault(f"{where} is a tensor of the file too")
            missing = next((part for part in parts if part not in stored), None)
            if missing is not None and whole:
                raise _fault(f"{where}: its part {excerpt(missing)} is not in the file")
            if missing is not None:
                continue
            first = stored[parts[0]]
            arrays = [stored[part] for part in parts]
            if any(a.dtype != np.uint8 or a.ndim != 2 or a.shape[1] != first.shape[1] for a in arrays):
                raise _fault(f"{where}: needs parts of uint8 with two axes and rows of one length")
            taken += sum(a.nbytes for a in arrays)
            if taken > _MOST_COPIES * size:
                raise _fault(f"its joined tensors take more than {_MOST_COPIES} times the data of the file")
            tensors[name] = np.concatenate(arrays)
        return tensors


def _fault(words: str) -> FormatError:
    return FormatError(f"[planes] {words}; the file is damaged")


def used_by(program: Program, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
    """The tensors that a program names, those that there are."""
    names = {name for step in program.steps for name in step.tensors.values()}
    return {name: tensor for name, tensor in tensors.items() if name in names}


@dataclass(frozen=True)
class Layout:
    """How models of rising numbers of planes lie in one file.

    Args:
        tensors: what is stored, in the order of the file: all that the first model needs, then what the second needs more, ...
        programs: of each model, with the names of the file.
        nested: what the file says of it.
    """

    tensors: Arrays
    programs: tuple[Program, ...]
    nested: NestedModels

    def metadata(self) -> dict[str, str]:
        """What the header holds besides the program of the whole model."""
        smaller = [{"planes": planes, "end": end} for planes, end in self.nested.smaller]
        joined = {name: list(parts) for name, parts in self.nested.joined.items()}
        text = json.dumps({"planes": self.nested.planes, "joined": joined, "smaller": smaller}, separators=(",", ":"))
        programs = zip(self.nested.smaller, self.programs, strict=False)
        return {KEY: text} | {f"program:{planes}": program.to_json() for (planes, _), program in programs}


def lay_out(models: Sequence[tuple[int, Program, Mapping[str, NDArray[Any]]]], order: Any) -> Layout:
    """Find what models of rising numbers of planes share: whole tensors, and rows of bits that a later model goes on from.

    Args:
        models: the number of planes, the program and the tensors of each.
        order: gives the names of tensors in the order of a file.
    """
    stored: Arrays = {}
    joined: dict[str, tuple[str, ...]] = {}
    chains: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {}
    programs, ends = [], []
    for place, (planes, program, tensors) in enumerate(models):
        names, fresh = {}, {}
        for name, array in used_by(program, tensors).items():
            parts, whole = chains.get(name, ((), array[:0]))
            if not parts or not _begins(array, whole):
                parts, whole = (), array[:0]
            if len(array) > len(whole) or not parts:
                alone = all(np.array_equal(other.get(name, array), array) for _, _, other in models)
                part = name if alone else f"{name}.{planes}"
                fresh[part] = np.ascontiguousarray(array[len(whole) :])
                parts = (*parts, part)
            chains[name] = (parts, array)
            names[name] = parts[0]
            if len(parts) > 1:
                names[name] = name if place == len(models) - 1 else f"{name}+{planes}"
                joined[names[name]] = parts
        stored |= {name: fresh[name] for name in order(fresh)}
        ends.append((planes, sum(a.nbytes for a in stored.values())))
        steps = [replace(s, tensors={role: names[name] for role, name in s.tensors.items()}) for s in program.steps]
        programs.append(replace(program, steps=tuple(steps)))
    return Layout(stored, tuple(programs), NestedModels(models[-1][0], joined, tuple(ends[:-1])))


def _begins(array: NDArray[Any], whole: NDArray[Any]) -> bool:
    """Whether rows of bits go on from others, or a tensor is the same."""
    if array.shape == whole.shape:
        return array.dtype == whole.dtype and np.array_equal(array, whole)
    grows = array.dtype == whole.dtype == np.uint8 and array.ndim == whole.ndim == 2 and len(array) > len(whole)
    return grows and np.array_equal(array[: len(whole)], whole)
