"""Quantise a layer's inputs to codes of a few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from onebit.quantizers.codes import Codes, check_bits, compute_dtype, quantize_unit, widened
from onebit.quantizers.gradients import straight_through

# The least range of a row of activations, as in BitNet's code.
SMALLEST_RANGE = 1e-5


@runtime_checkable
class ActivationQuantizer(Protocol):
    """A quantizer of a layer's inputs: `Sign`, `KBitActivations`, `AbsMax`, or a class with the same members."""

    @property
    def signed(self) -> bool:
        """Whether negative inputs keep their sign. Otherwise they become 0."""

    def __call__(
        self, x: Tensor, axes: tuple[int, ...] = (-1,), training: bool = True, progress: float = 0.0, /
    ) -> Codes:
        """Quantise inputs. Elements along `axes` share a scale."""

    def describe(self) -> dict[str, object]:
        """The attribute `input` of a packed layer; see docs/program.md."""


def k_bit_activations(x: Tensor, bits: int) -> Codes:
    r"""Quantise to k bits, evenly spaced from 0 to 1. The gradient passes inside this range.

    .. math:: y = \operatorname{quantize}_k(\operatorname{clip}(x, 0, 1))

    Returns:
        Codes 0 to 2^k - 1, and the scale 1 / (2^k - 1). NaN becomes 0, and halves round to even.

    Source: Zhou et al., DoReFa-Net, arXiv 1606.06160, eq. 11, after an activation that is bounded to 0..1.
    """
    level = quantize_unit(x.clamp(0, 1), bits, compute_dtype(x))
    return Codes(level, torch.tensor(1 / ((1 << bits) - 1), device=x.device))


def absmax(x: Tensor, bits: int = 8, axes: tuple[int, ...] = (-1,)) -> Codes:
    r"""Quantise to 8 or 16 bits, with one scale for all elements along `axes`. The gradient is the identity.

    .. math:: q = \operatorname{clip}(\operatorname{round}(x \, t / m), -t, t), \quad y = q \, m / t, \quad m = \max |x|, \quad t = 2^{bits - 1} - 1

    Args:
        x: floating tensor of any shape.
        bits: 8 or 16.
        axes: the axes that share a scale: the last axis of rows, all axes but the first of images.

    Rows of zeros give zeros. NaN or infinity makes its whole row NaN. Under autocast a product of 16-bit codes has autocast's precision, and
    does not fit in float16.

    Source: Wang et al., BitNet, arXiv 2310.11453, eqs. 4 and 5, with the changes in the code of BitNet b1.58: rounding, t = 127 instead of 128,
    one scale per token, and signed codes after every nonlinearity.
    """
    top = (1 << (bits - 1)) - 1
    with torch.no_grad():
        high = widened(x.abs().amax(axes, keepdim=True)).clamp_min(SMALLEST_RANGE)
        # PyTorch computes a number divided by a tensor as reciprocal times number, which rounds twice. The engine divides.
        inverse, scale = torch.tensor(float(top), device=high.device) / high, high / top
    # bfloat16 cannot hold levels beyond 256, so 16-bit levels are float32.
    made = compute_dtype(x) if bits == 8 else high.dtype
    q = straight_through(
        x, lambda v: (widened(v) * inverse).round().clamp(-top, top).to(made), lambda v: inverse.to(v.dtype)
    )
    return Codes(q, scale)


@dataclass(frozen=True)
class KBitActivations:
    """`k_bit_activations` as a quantizer of activations, 1 to 8 bits."""

    bits: int = 2
    signed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_bits("KBitActivations", self.bits)

    def __call__(self, x: Tensor, axes: tuple[int, ...] = (-1,), training: bool = True, progress: float = 0.0) -> Codes:
        return k_bit_activations(x, self.bits)

    def describe(self) -> dict[str, object]:
        """The `input` of a packed layer."""
        return {"quantizer": "unit", "bits": self.bits}


@dataclass(frozen=True)
class AbsMax:
    """`absmax` as a quantizer of activations, 8 or 16 bits."""

    bits: int = 8
    signed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise ValueError(f"[AbsMax] bits={self.bits}: use 8 or 16")

    def __call__(self, x: Tensor, axes: tuple[int, ...] = (-1,), training: bool = True, progress: float = 0.0) -> Codes:
        return absmax(x, self.bits, axes)

    def describe(self) -> dict[str, object]:
        """The `input` of a packed layer."""
        return {"quantizer": "absmax", "bits": self.bits}
