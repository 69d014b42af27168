"""Where what took long to make is kept for the next time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$ONEBIT_CACHE, else onebit in $XDG_CACHE_HOME or ~/.cache; it need not exist, nor be a folder that can be written.

    Raises:
        OSError: none is named, and there is no home.
    """
    try:
        if named := os.environ.get("ONEBIT_CACHE"):
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onebit"
    except RuntimeError:  # of a user who is not known to the system
        raise OSError(0, "there is no home folder") from None


def cannot_keep(what: str, error: OSError) -> str:
    """What is not in the cache, where that should lie, and why; a message goes on from there."""
    try:
        place = f" in {cache_folder()}"
    except OSError:
        place = ""
    return f"{what} cannot be kept{place} ({error.strerror or error})"
