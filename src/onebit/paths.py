"""Paths as users write them: one meaning of `~`, wherever a path comes from."""

from __future__ import annotations

from pathlib import Path


def expand(path: str | Path) -> Path:
    """The path that is meant, with `~` and `~user` at its start as the home folder; an unknown user stays as it is written.

    A shell does this only where `~` begins a word: not in `--data=~/books`, in quotes, in YAML or in Python.
    """
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path
