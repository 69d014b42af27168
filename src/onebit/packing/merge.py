"""Folds scales and shifts that follow each other: a weight's scale, a bias and a batch normalisation are one pair of floats for each channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.program import Step


@dataclass(frozen=True)
class FloatTensor:
    """A tensor that stays float32 in the packed file, and why."""

    name: str
    elements: int
    reason: str


def merge_scales(
    steps: list[Step], tensors: dict[str, NDArray[Any]], kept_float: list[FloatTensor], results: Sequence[str]
) -> list[Step]:
    """The steps with each chain of `scale_shift` as one; removes unused tensors from `tensors` and `kept_float`, and adds the new ones.

    A step is folded into the one before it only where no other step reads the value between them. `results`: the program's outputs.
    """
    uses = Counter(name for step in steps for name in step.inputs)
    uses.update(results)
    reasons = {t.name: t.reason for t in kept_float}
    merged: list[Step] = []
    makers: dict[str, int] = {}  # a value to the place of its step in `merged`
    for step in steps:
        place = makers.get(step.inputs[0], -1)
        before = merged[place] if place >= 0 else None
        if (
            before is None
            or step.op != "scale_shift"
            or before.op != "scale_shift"
            or uses[before.output] != 1
            or _shared(before, steps)
            or _shared(step, steps)
        ):
            makers[step.output] = len(merged)
            merged.append(step)
            continue
        first = {role: tensors[name].astype(np.float64) for role, name in before.tensors.items()}
        second = {role: tensors[name].astype(np.float64) for role, name in step.tensors.items()}
        names = {**before.tensors, **step.tensors}
        folded = {"scale": first["scale"] * second["scale"]}
        if "shift" in names:
            folded["shift"] = first.get("shift", 0) * second["scale"] + second.get("shift", 0)
        why = [reasons[step.tensors["scale"]], reasons[before.tensors["scale"]]]
        for name in before.tensors.values():
            del tensors[name]
        for role, name in names.items():
            tensors[name] = folded[role].astype(np.float32)
            reasons[name] = " and ".join(dict.fromkeys(reversed(why)))
        makers[step.output] = place
        merged[place] = Step("scale_shift", before.inputs, step.output, {}, names)
    kept_float[:] = [
        FloatTensor(t.name, tensors[t.name].size, reasons[t.name]) for t in kept_float if t.name in tensors
    ]
    return merged


def _shared(step: Step, steps: list[Step]) -> bool:
    """Whether another step reads one of a step's tensors: a layer that a network calls twice."""
    names = set(step.tensors.values())
    return sum(bool(names & set(other.tensors.values())) for other in steps) > 1
