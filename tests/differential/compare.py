"""Run one program in the NumPy reference and in the engine: both results must lie within the bounds of error_bounds.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import error_bounds
import numpy as np
from random_programs import Case

from onebit._engine import Decoder, Engine, isas
from onebit.errors import FormatError
from onebit.runtime import reference

SUPPORTED = [str(isa["name"]) for isa in isas() if isa["supported"]]


@dataclass(frozen=True)
class Judgement:
    """What came of one program.

    Args:
        wrong: a line for each disagreement.
        exact, loose, unjudged: shares of the outputs whose every bit is promised, whose bound is above a hundredth of the output's size, and of which
            nothing is promised.
    """

    wrong: list[str]
    exact: float
    loose: float
    unjudged: float


def judge(case: Case, names: Sequence[str] = SUPPORTED) -> Judgement:
    """Compare the reference and these instruction sets."""
    program, tokens = case.program, case.program.tokens
    batch = case.x[None] if tokens else case.x
    with np.errstate(all="ignore"):
        expected = (
            error_bounds.run(program, case.tensors, batch, case.precision, case.cache)[program.output]
            if program.steps
            else None
        )
    if expected is None:
        return Judgement([], 1, 0, 0)
    wrong = []
    if case.cache is None:
        found = reference.run(program, case.tensors, batch, case.precision)  # type: ignore[arg-type]
        wrong += _compare("the NumPy reference", found, expected)
    first = None
    for isa in names:
        results = (_tokens if tokens else _arrays)(case, isa)
        whole = results[isa]
        wrong += _compare(isa, whole[None] if tokens else whole, expected)
        for name, result in results.items():
            if name != isa:
                wrong += _differ(f"{name}, not the same bits as {isa}", result, whole)
        if first is None:
            first = whole
        else:
            wrong += _differ(f"{isa}, not the same bits as {names[0]}", whole, first)
    size = np.abs(expected.x[np.isfinite(expected.x)].astype(np.float64)).max(initial=0)
    loose = (expected.error > 0.01 * size) & (expected.error < np.inf)
    return Judgement(wrong, np.mean(expected.error == 0), np.mean(loose), np.mean(expected.error == np.inf))


def _arrays(case: Case, isa: str) -> dict[str, Any]:
    text = case.program.to_json()
    results = {isa: Engine(text, case.tensors, case.precision, 1, isa).run(case.x)}
    if case.threads > 1:
        results[f"{isa}, {case.threads} threads"] = Engine(text, case.tensors, case.precision, case.threads, isa).run(
            case.x
        )
    return results


def _tokens(case: Case, isa: str) -> dict[str, Any]:
    text = case.program.to_json()

    def run(counts: list[int], threads: int) -> Any:
        decoder = Decoder(text, case.tensors, case.precision, threads, isa, cache=case.cache)
        sequence, parts, at = decoder.open(), [], 0
        for count in counts:
            parts.append(decoder.extend([sequence], [count], case.x[at : at + count], all=True))
            at += count
        return np.concatenate(parts)

    n = len(case.x)
    results = {isa: run([n], 1), f"{isa}, token by token": run([1] * n, 1)}
    if case.threads > 1:
        results[f"{isa}, {case.threads} threads"] = run([n], case.threads)
    return results


def _compare(name: str, found: Any, expected: error_bounds.Value) -> list[str]:
    outside = error_bounds.outside(found, expected)
    if not outside.any():
        return []
    at = tuple(int(i) for i in np.argwhere(outside)[0])
    return [
        f"{name}: {int(outside.sum())} of {outside.size} outputs are out of bounds; [{', '.join(map(str, at))}] is {found[at]!r}, "
        f"expected {expected.x[at]!r} within {expected.error[at]:.3g}"
    ]


def _differ(name: str, found: Any, other: Any) -> list[str]:
    different = (found.view(np.uint32) != other.view(np.uint32)) & ~(np.isnan(found) & np.isnan(other))
    if not different.any():
        return []
    at = tuple(int(i) for i in np.argwhere(different)[0])
    return [
        f"{name}: {int(different.sum())} of {different.size} outputs; [{', '.join(map(str, at))}] is {found[at]!r}, and {other[at]!r} there"
    ]


def shrink(case: Case, names: Sequence[str] = SUPPORTED) -> Case:
    """The smallest program that still disagrees, as far as leaving out goes."""
    changed = True
    while changed:
        changed = False
        for smaller in _smaller(case):
            try:
                smaller.program.shapes(smaller.tensors)
                if not judge(smaller, names).wrong:
                    continue
            except (FormatError, ValueError):
                continue
            case, changed = smaller, True
            break
    return case


def _smaller(case: Case) -> list[Case]:
    program = case.program
    steps = program.steps
    made = []
    for index, step in enumerate(steps):  # an earlier end
        if step.output != program.output:
            made.append(replace(case, program=replace(program, steps=steps[: index + 1], output=step.output)))
    used = {program.output, *(name for step in steps for name in step.inputs)}
    for index, step in enumerate(steps):
        rest = steps[:index] + steps[index + 1 :]
        if step.output not in used:  # what nothing reads
            made.append(replace(case, program=replace(program, steps=rest)))
            continue
        for name in step.inputs:  # what reads its value reads what it read

            def renamed(other: str, name: str = name, old: str = step.output) -> str:
                return name if other == old else other

            linked = tuple(replace(s, inputs=tuple(map(renamed, s.inputs))) for s in rest)
            made.append(replace(case, program=replace(program, steps=linked, output=renamed(program.output))))
    if case.threads > 1:
        made.append(replace(case, threads=1))
    if len(case.x) > 1:
        made += (
            [replace(case, x=case.x[i : i + 1]) for i in range(len(case.x))]
            if not program.tokens
            else [replace(case, x=case.x[:-1])]
        )
    return [case for case in made if case.program.steps]
