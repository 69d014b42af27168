"""Show the progress of long work on a terminal, without other output of libraries, or in a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from onebit.cli.bars import Lines, bar
from onebit.progress import Listener, listen

LINE_SECONDS = 10.0  # between two lines without a terminal


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Show the progress of the work inside the block, on standard error."""
    with listener() as listens, listen(listens):
        yield


@contextlib.contextmanager
def listener(discard: bool = False) -> Iterator[Listener]:
    """Shows progress on standard error: a bar on a terminal (with rich, if it is installed), and otherwise a line now and then.

    Args:
        discard: whether to discard other output to standard output and standard error meanwhile.
    """
    with only_ours() if discard else contextlib.nullcontext(sys.stderr) as stream:
        if not stream.isatty():
            yield Lines(stream, LINE_SECONDS, "{}\n")
            return
        with bar(stream) as shows:
            yield shows


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
