"""Packed files on a GPU: weights stay one bit each in its memory, and the kernels are written in Triton.

`onebit.load(file, device="cuda")` uses this room. docs/gpu.md describes it.
"""

from onebit.gpu.setup import device_for as device_for
