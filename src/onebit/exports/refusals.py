"""What a target lacks, in one line: every kind of step that it does not take, and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from onebit.errors import OnebitError
from onebit.printable import printable


def refuse(source: Path, target: str, faults: Iterable[tuple[str, str]]) -> None:
    """Raise an error that names all faults, each an op and what is wrong with it; without faults, do nothing.

    Raises:
        OnebitError: there are faults.
    """
    counts = Counter(faults)
    if not counts:
        return
    named = []
    for (op, fault), count in counts.items():
        times = f" ({count} steps)" if count > 1 else ""
        named.append(f"{op}{times}" + (f": {fault}" if fault else ""))
    raise OnebitError(
        f"[export] {printable(str(source))} has what {target} does not take, and nothing was written: {'; '.join(named)}"
    )
