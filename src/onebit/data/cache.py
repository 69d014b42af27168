"""The folder that keeps results that took long to compute."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$ONEBIT_CACHE, or else onebit in $XDG_CACHE_HOME or ~/.cache. The folder may not exist or not be writable.

    Raises:
        OSError: no variable names a folder, and there is no home folder.
    """
    try:
        if named := os.environ.get("ONEBIT_CACHE"):
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onebit"
    except RuntimeError:  # the system does not know the user
        raise OSError(0, "there is no home folder") from None


def cannot_keep(what: str, error: OSError) -> str:
    """The beginning of a message: what cannot be cached, where, and why."""
    try:
        place = f" in {cache_folder()}"
    except OSError:
        place = ""
    return f"{what} cannot be kept{place} ({error.strerror or error})"
