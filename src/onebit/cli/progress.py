"""Progress on a terminal that a library would write to as well."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO


@contextlib.contextmanager
def only_ours() -> Iterator[TextIO]:
    """Discards what is written to the process's output and errors; what is written to the file that this yields still arrives.

    Ray, whose C++ parts write where Python's logging does not reach, keeps logs of its own below /tmp/ray.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with os.fdopen(os.dup(kept[1]), "w") as terminal:
            yield terminal
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(nowhere)


def progress_line(terminal: TextIO) -> Callable[[int, int, float], None]:
    """Shows how many records are done and how many a second, in one line that is written over."""
    last = 0.0

    def show(done: int, records: int, rate: float) -> None:
        nonlocal last
        if time.monotonic() - last > 0.2 or done == records:
            last = time.monotonic()
            end = "\n" if done == records else ""
            terminal.write(f"\r{done:,} of {records:,} records, {rate:,.0f}/s \x1b[K{end}")
            terminal.flush()

    return show
