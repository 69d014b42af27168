"""Rotary position embeddings, which turn the features of queries and keys by angles that grow with the position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from onebit.ops.rotary import frequencies

# Of the RoFormer paper, and of most networks since.
USUAL_BASE = 10000.0


class RotaryPositions(nn.Module):
    r"""Turn pairs of each head's features by angles that grow with the position. A product of two turned vectors depends on their distance.

    .. math:: y_j = x_j \cos\theta_j - x_{j+r/2} \sin\theta_j, \qquad
              y_{j+r/2} = x_{j+r/2} \cos\theta_j + x_j \sin\theta_j, \qquad \theta_j = p \, base^{-2j/r}

    p is the position, from 0. The other features of a head stay as they are.

    Args:
        heads: the number of heads, which divides the features.
        base: sets the slowest angle.
        rotated: r, the number of features of each head that turn; None for all.
        scaling: how the angles were stretched for longer texts, as the op `rotary` takes it; None for not at all.

    Shape:
        (batch, time, heads * d) to the same.

    Raises:
        ValueError: `base` is not above 0, `heads` does not divide the features, or r is odd or more than a head has.

    Example:
        >>> RotaryPositions(heads=4)(torch.ones(1, 3, 32)).shape
        torch.Size([1, 3, 32])

    Source: Su et al., RoFormer, arXiv 2104.09864, with the pairs of features as in Llama.
    """

    def __init__(
        self,
        heads: int,
        base: float = USUAL_BASE,
        rotated: int | None = None,
        scaling: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"[RotaryPositions] heads={heads}: use 1 or more")
        if not base > 0:
            raise ValueError(f"[RotaryPositions] base={base}: use a number above 0")
        if rotated is not None and (rotated < 2 or rotated % 2):
            raise ValueError(f"[RotaryPositions] rotated={rotated}: use an even number from 2 up")
        self.heads = heads
        self.base = base
        self.rotated = rotated
        self.scaling = None if scaling is None else dict(scaling)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """`start` is the position of the first token of `x`."""
        x_h = x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)  # (batch, time, heads, d)
        turned = x_h.shape[-1] if self.rotated is None else self.rotated
        check_turned("RotaryPositions", turned, x_h.shape[-1])
        half = turned // 2
        speeds, factor = self._speeds(half, x.device)
        places = torch.arange(start, start + x.shape[-2], device=x.device, dtype=torch.float32)
        angles = torch.outer(places, speeds)[:, None]  # (time, 1, half)
        cos, sin = (factor * angles.cos()).to(x.dtype), (factor * angles.sin()).to(x.dtype)
        a, b, rest = torch.split(x_h, [half, half, x_h.shape[-1] - turned], -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1).flatten(-2)

    def _speeds(self, half: int, device: torch.device) -> tuple[Tensor, float]:
        """The angle of each pair from token to token, and the factor of cosines and sines."""
        if self.scaling is None:
            return self.base ** (torch.arange(half, device=device, dtype=torch.float32) / -half), 1.0
        speeds, factor = frequencies({"base": self.base, "scaling": self.scaling}, 2 * half)
        return torch.from_numpy(speeds).to(device), float(factor)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, base={self.base:g}" + ("" if self.rotated is None else f", rotated={self.rotated}")


def check_turned(name: str, turned: int, features: int) -> None:
    """Refuse a number of features to turn that is odd, or more than a head's; raises ValueError."""
    if turned % 2 or turned > features:
        raise ValueError(
            f"[{name}] rotary positions turn pairs of features, and {turned} of {features} features of a head are not "
            "pairs: use an even number"
        )
