"""How the process keeps memory between steps."""

from __future__ import annotations

import ctypes
import platform

# Of glibc's malloc.h. The threshold may be at most half the size of a heap, 32 MiB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_THRESHOLD = 1 << 25
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Let the process keep the memory of freed tensors rather than give it back and ask for it again at every step; whether it took effect.

    Each new page has to be cleared by the system when it is first touched: on a CPU that is a tenth of a step. Under glibc only; elsewhere
    nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT))
