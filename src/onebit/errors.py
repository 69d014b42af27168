"""The errors that a user can meet. Each says where, what was seen, what is allowed, and what to do."""

from __future__ import annotations

import errno
import os
import reprlib
from pathlib import Path


class OnebitError(ValueError):
    """Base class of all errors that input, files or settings cause. The command prints them as one line."""


class FormatError(OnebitError):
    """A `.onebit` file, or the program inside it, is damaged, foreign or of an unknown version."""


class DataError(OnebitError):
    """A data set or an image cannot be used as it is."""


class RecipeError(OnebitError):
    """A recipe or one of its keys is unknown, or has the wrong type or value."""


class PackError(OnebitError):
    """A PyTorch model contains something that a packed program cannot express."""


class ForeignModelError(OnebitError):
    """A model in another program's format, such as GGUF, is damaged, or has what onebit does not run."""


# The length of a value that a message quotes: enough to recognise it.
SHOWN_CHARACTERS = 80


def shown(value: object) -> str:
    """A value as a message quotes it: its `repr`, shortened if it is long or nested. The full `repr` is never built.

    Example:
        >>> shown([[1] * 100] * 100)
        '[[1, 1, 1, 1, 1, 1, ...], [1, 1, 1, 1, 1, 1, ...], [1, 1, 1, 1, 1, 1, ...], ...'
    """
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, SHOWN_CHARACTERS - 4, SHOWN_CHARACTERS, 40
    try:
        text = short.repr(value)
    except ValueError:  # Python does not convert integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def describe_system_error(error: OSError) -> str:
    """An error of the system as the others are: the file first, then what is wrong with it."""
    if error.strerror is None:
        return str(error)
    if error.filename is None:
        return error.strerror
    path = Path(os.fsdecode(error.filename))
    if error.errno == errno.ENOENT and not path.parent.exists():
        return f"[{path}] there is no folder {path.parent}: make it first, or give another path"
    return f"[{path}] {error.strerror}"
