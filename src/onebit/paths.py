"""Paths as users write them: `~` is expanded wherever a path comes from, and an empty path is refused."""

from __future__ import annotations

import os
from pathlib import Path

from onebit.errors import OnebitError, shown


class PathError(OnebitError):
    """A text that cannot be a path."""


def expand(path: str | Path) -> Path:
    """The path with `~` or `~user` at its start replaced by the home folder. An unknown user stays as written.

    A shell does this only for `~` at the start of a word: not in `--data=~/books`, in quotes, in YAML or in Python.

    Raises:
        PathError: the path is empty, which Python takes for the current folder, or contains a character that paths cannot have.
    """
    if isinstance(path, str) and not path:
        raise PathError("a path is empty: give a file or a folder; . is the current folder")
    path = Path(path)
    try:
        if b"\0" in os.fsencode(path):
            raise PathError(f"the path {shown(str(path))} contains a NUL character: remove it")
    except UnicodeEncodeError:
        raise PathError(f"the path {shown(str(path))} contains half a surrogate pair: remove it") from None
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path
