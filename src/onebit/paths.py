"""Paths as users write them: one meaning of `~`, wherever a path comes from, and no path at all refused."""

from __future__ import annotations

import os
from pathlib import Path

from onebit.errors import OnebitError, shown


class PathError(OnebitError):
    """A text that cannot be a path."""


def expand(path: str | Path) -> Path:
    """The path that is meant, with `~` and `~user` at its start as the home folder; an unknown user stays as it is written.

    A shell does this only where `~` begins a word: not in `--data=~/books`, in quotes, in YAML or in Python.

    Raises:
        PathError: it is empty, which Python takes for the folder one stands in, or holds a character that no path holds.
    """
    if isinstance(path, str) and not path:
        raise PathError("a path is empty: give a file or a folder; . is the folder you are in")
    path = Path(path)
    try:
        if b"\0" in os.fsencode(path):
            raise PathError(f"the path {shown(str(path))} holds a NUL: give another")
    except UnicodeEncodeError:
        raise PathError(f"the path {shown(str(path))} holds half a surrogate pair: give another") from None
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path
