"""Write pictures to files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError
from onebit.fileformat import write_atomically
from onebit.paths import expand

FORMATS = ("png", "pdf", "svg")


def save(figure: Any, path: str | Path) -> None:
    """Write a picture atomically, in the format that the file's name says.

    Raises:
        OnebitError: the name has another suffix.
        OSError: the file cannot be written.
    """
    path = check_name(path)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lstrip(".").lower(), dpi=110)
    write_atomically(path, content.getvalue())


def check_name(path: str | Path) -> Path:
    """The path of a picture. Raises OnebitError if its suffix is not a known format."""
    path = expand(path)
    if path.suffix.lstrip(".").lower() not in FORMATS:
        raise OnebitError(f"[plot] {path}: use a name that ends in {', '.join(FORMATS)}")
    return path
