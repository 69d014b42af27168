"""Make the standard streams safe to use, whatever state a shell, cron or a full disk leaves them in."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from onebit.cli.unfailing import UnfailingErrors
from onebit.errors import describe_system_error
from onebit.printable import one_line


class OutputError(OSError):
    """The output of a command could not be written."""


def prepare() -> None:
    """Make the three streams usable: closed ones go to /dev/null, and characters that they cannot encode are escaped."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file to be opened gets this number, and a library's output goes into that file.
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    for name in ("stdin", "stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="surrogateescape" if name == "stdin" else "backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = io.TextIOWrapper(UnfailingErrors(), sys.stderr.encoding, "backslashreplace", write_through=True)


def finish() -> None:
    """Flush standard output.

    Raises:
        BrokenPipeError: the reader has closed the pipe, as in `onebit info FILE | head`.
        OutputError: the output cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"[output] cannot be written: {error.strerror}") from None


def say(line: str) -> None:
    """Print a line to standard error, if it is open."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def say_error(error: object) -> None:
    """Print an error as one line without control characters."""
    say(f"onebit: error: {one_line(describe_system_error(error) if isinstance(error, OSError) else error)}")


def say_notes(notes: Iterable[str]) -> None:
    """Print the notes that come with a result, one line each."""
    for note in notes:
        say(f"note: {one_line(note)}")


def _drop(stream: Any) -> None:
    """Send a stream to /dev/null. Otherwise the interpreter prints an error at exit."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
