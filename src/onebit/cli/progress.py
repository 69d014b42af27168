"""Progress on a terminal, kept free of what a library writes to it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO


@contextlib.contextmanager
def only_ours() -> Iterator[TextIO]:
    """Discard standard output and standard error; yield a file that still reaches the terminal.

    Ray's C++ parts write there without Python's logging. Ray keeps its own logs under /tmp/ray.
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
    """A function that shows, in one line, how many records are done and how many per second."""
    last = 0.0

    def show(done: int, records: int, rate: float) -> None:
        nonlocal last
        if time.monotonic() - last > 0.2 or done == records:
            last = time.monotonic()
            end = "\n" if done == records else ""
            terminal.write(f"\r{done:,} of {records:,} records, {rate:,.0f}/s \x1b[K{end}")
            terminal.flush()

    return show
