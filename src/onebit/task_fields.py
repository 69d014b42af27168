"""Checks of single fields of tasks, which the checks of whole tasks are made from."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

from onebit.strict_json import excerpt

_SURROGATE = re.compile("[\ud800-\udfff]")

# The limit of a program's axes too: no program takes a larger picture.
MAX_SIDE = 1 << 24


def labels_fault(labels: Sequence[Any]) -> str | None:
    """A fault in the names of classes, or None."""
    if not labels:
        return "has no labels: name at least one class"
    return names_fault(labels, "the list of labels", "label")


def names_fault(names: Sequence[Any], what: str, kind: str) -> str | None:
    """A fault in names of one kind, each of which must be a text of its own, or None."""
    if not all(isinstance(name, str) for name in names):
        return f"a {kind} is not a text: needs a list of texts"
    half = next((name for name in names if _SURROGATE.search(name)), None)
    if half is not None:
        return f"{what} names {excerpt(half)} with half a surrogate pair, which is not a character: leave it out"
    # A reader in C would end the text there.
    nul = next((name for name in names if "\0" in name), None)
    if nul is not None:
        return f"{what} names {excerpt(nul)} with a character of the code 0: leave it out"
    if len(set(names)) != len(names):
        first: dict[str, int] = {}
        name, again = next((name, i) for i, name in enumerate(names) if first.setdefault(name, i) != i)
        return f"{what} names {excerpt(name)} more than once ({kind}s {first[name]} and {again}): keep one of them"
    return None


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a list of JSON, or a tuple."""
    return isinstance(value, (list, tuple))


def is_above(value: Any, least: float) -> bool:
    """Whether a value is a finite number above a limit."""
    try:
        return type(value) in (int, float) and least < float(value) < math.inf
    except OverflowError:
        return False


def whole_fault(task: dict[str, Any], name: str, least: int, most: int) -> str | None:
    """A fault in a field that must be an integer within limits, or None."""
    value = task.get(name)
    if type(value) is int and least <= value <= most:
        return None
    return f"{name}={excerpt(value)}: needs an integer from {least} to {most}"
