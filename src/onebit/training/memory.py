"""How the process keeps memory between steps."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

# Of glibc's malloc.h. The threshold may be at most half the size of a heap, 32 MiB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_THRESHOLD = 1 << 25
_KEPT = 1 << 30
# A user who has chosen how malloc works is not overruled.
CHOICES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let the process keep the memory of freed tensors rather than give it back and ask for it again at every step; whether it took effect.

    Each new page has to be cleared by the system when it is first touched: on a CPU that is a tenth of a step. Under glibc only; elsewhere
    nothing changes.
    """
    return _set_thresholds(_LARGEST_THRESHOLD, _KEPT)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """`keep_freed_memory` for as long as the body runs; then what is free goes back to the system.

    glibc does not tell its thresholds. Afterwards they are what glibc itself sets them to after a large array was freed: it maps blocks of 32 MiB and
    more, and keeps twice that.
    """
    kept = keep_freed_memory()
    try:
        yield
    finally:
        if kept:
            _set_thresholds(_LARGEST_THRESHOLD, 2 * _LARGEST_THRESHOLD)
            ctypes.CDLL(None).malloc_trim(0)


def _set_thresholds(mapped: int, trimmed: int) -> bool:
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOICES):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, mapped)) and bool(mallopt(_M_TRIM_THRESHOLD, trimmed))
