"""Networks that come with the package, each a packed file NAME.onebit beside what made it: NAME.yaml (its recipe), NAME.csv (its curves), NAME.json
(its measured figures and its float twin's).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onebit.paths import expand

# What `onebit generate` writes with where no file is given.
DEFAULT = "books"


def names() -> list[str]:
    """The names of the networks, such as "books", a decoder that writes English."""
    return sorted(path.stem for path in _folder().glob("*.onebit"))


def find(file: str | Path) -> Path:
    """The file that is meant: a path as it is, or the packed file of a network that comes with the package, by its name.

    Example:
        >>> find("books").name
        'books.onebit'
    """
    path = expand(file)
    return _folder() / f"{file}.onebit" if str(file) in names() and not path.exists() else path


def figures(name: str) -> dict[str, Any]:
    """What was measured of a network and of its float twin, and how it was trained."""
    values: dict[str, Any] = json.loads((_folder() / f"{name}.json").read_text("utf-8"))
    return values


def _folder() -> Path:
    return Path(__file__).parent
