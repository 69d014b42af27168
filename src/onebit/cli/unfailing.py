"""Standard error for programs that must go on where nobody can read what they say."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any


class UnfailingErrors(io.BufferedIOBase):
    """Standard error that ignores failed writes, so that a full disk or a closed pipe does not end a long training."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        size = len(rest)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(2, rest) :]
        return size
