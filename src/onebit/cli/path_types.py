"""The types of arguments that are paths."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from onebit.paths import PathError, expand
from onebit.pretrained import find


def path(text: str) -> Path:
    """The type of an argument that is a path: what cannot be one is a wrong usage, which names the argument."""
    return _as_path(text, expand)


def _as_path(text: str, find_path: Callable[[str], Path]) -> Path:
    try:
        return find_path(text)
    except PathError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def packed_file(text: str) -> Path:
    """The type of an argument that is a packed file, by its path or by its name."""
    return _as_path(text, find)
