"""Networks that come with the package, each a packed file NAME.onebit with what is known of it: NAME.csv (its curves), NAME.json (its measured
figures and how it was trained), and NAME.yaml (its recipe) where a recipe of this package trained it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onebit.paths import expand

# What `onebit generate` writes with where no file is given.
DEFAULT = "books-31m"
# Names that stand for another.
_ALIASES = {"books": DEFAULT}


def names() -> list[str]:
    """The names of the networks, such as "books-31m", a decoder that writes English."""
    return sorted(path.stem for path in _folder().glob("*.onebit"))


def find(file: str | Path) -> Path:
    """The file that is meant: a path as it is, or the packed file of a network that comes with the package, by its name.

    Example:
        >>> find("books-10m").name
        'books-10m.onebit'
        >>> find("books").name  # the best of the decoders
        'books-31m.onebit'
    """
    path = expand(file)
    name = _ALIASES.get(str(file), str(file))
    return _folder() / f"{name}.onebit" if name in names() and not path.exists() else path


def figures(name: str) -> dict[str, Any]:
    """What was measured of a network and of its float twin, and how it was trained."""
    values: dict[str, Any] = json.loads((_folder() / f"{_ALIASES.get(name, name)}.json").read_text("utf-8"))
    return values


def _folder() -> Path:
    return Path(__file__).parent
