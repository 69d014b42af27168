"""Standard input, output and errors, whatever state a shell, cron or a full disk leaves them in."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from onebit.printable import one_line


class OutputError(OSError):
    """What a command prints could not be written."""


def prepare() -> None:
    """Make the three streams usable: closed ones lead nowhere, and no character that they cannot encode ends a command."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The next file that is opened would take the number, and what a library writes to its output would go into that file.
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    for name in ("stdin", "stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="surrogateescape" if name == "stdin" else "backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = io.TextIOWrapper(_Notes(), sys.stderr.encoding, "backslashreplace", write_through=True)


class _Notes(io.BufferedIOBase):
    """Standard error, where what cannot be written is lost: no progress on a full disk or to a reader that has gone ends a long training."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        size = len(rest)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(2, rest) :]
        return size


def finish() -> None:
    """Write what is still held.

    Raises:
        BrokenPipeError: the reader of the output has gone, as in `onebit info FILE | head`.
        OutputError: it cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"[output] cannot be written: {error.strerror}") from None


def say(line: str) -> None:
    """A line to standard error, if anything can be said there."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def say_error(error: object) -> None:
    """An error as one line that a terminal shows as it is."""
    say(f"onebit: error: {one_line(error)}")


def say_notes(notes: Iterable[str]) -> None:
    """What a user should know beyond a result, a line each."""
    for note in notes:
        say(f"note: {one_line(note)}")


def _drop(stream: Any) -> None:
    """Lead a stream nowhere, or the interpreter complains at its end of what it could not write."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
