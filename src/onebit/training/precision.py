"""In which numbers a network is trained: float32, or bfloat16 where the machine multiplies faster in it."""

from __future__ import annotations

from pathlib import Path

import torch

from onebit.errors import OnebitError


def use_bf16(precision: str) -> bool:
    """Whether to compute in bfloat16: on request, or where the machine has instructions for it (elsewhere it is slower)."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    described = Path("/proc/cpuinfo")
    return described.exists() and computes_in_bf16(described.read_text())


def computes_in_bf16(cpu: str) -> bool:
    """Whether a processor, as Linux describes it, multiplies bfloat16 faster than float32: by AMX, or by AMD's AVX-512.

    Intel's AVX-512 has the instruction, but multiplies half as many numbers in a cycle as in float32: a step takes 1.4 times as long with it.
    """
    return "amx_bf16" in cpu or ("avx512_bf16" in cpu and "AuthenticAMD" in cpu)


def check_precision(precision: str) -> None:
    """Refuse bfloat16 on a GPU that has no such numbers; a processor has them in software."""
    if precision == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):
        raise OnebitError(
            "[train] precision=bf16: this GPU does not compute in bfloat16: use precision=float32 or auto"
        )
