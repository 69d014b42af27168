"""The kinds of tasks whose inputs are arrays, by their names in files."""

from __future__ import annotations

from typing import Any

from onebit.kinds.kind import Kind

KINDS: dict[str, Kind] = {}


def kind_of(task: Any) -> Kind:
    """The kind of a task."""
    return KINDS[task.kind]
