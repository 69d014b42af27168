"""Which device a session computes on, and whether it can."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from onebit.errors import OnebitError, shown

if TYPE_CHECKING:
    import torch


def device_for(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: ``"cuda"``, ``"cuda:1"`` and so on. ``"cpu"`` only where Triton's interpreter is switched on (TRITON_INTERPRET=1), which computes
            the same numbers very slowly, for tests.

    Raises:
        OnebitError: PyTorch or Triton is not installed, or the device does not exist.
    """
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        raise OnebitError(
            f'[load] device={name!r} needs {error.name}: pip install "onebit[gpu]", or leave device out'
        ) from None
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    kind, _, index = name.partition(":")
    if kind == "cpu" and not index and interpreted:
        return torch.device("cpu")
    if kind != "cuda" or (index and not index.isdecimal()):
        raise OnebitError(f"[load] device={shown(name)}: use 'cpu', 'cuda' or 'cuda:N'")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        found = f"PyTorch sees {count} GPU{'s' * (count != 1)}" if count else "PyTorch sees no GPU"
        raise OnebitError(f"[load] device={name!r}: {found}; leave device out to run on the CPU")
    return torch.device(name)
