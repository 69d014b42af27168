"""What the binary layers share: their choice of values and normalisation, and their bits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from onebit.binarize import VALUES, threshold_bits
from onebit.normalize import OVERS


class Bits(NamedTuple):
    """The bits of a layer: bool tensors of the shapes of its `weight` and `bias`."""

    weight: Tensor
    bias: Tensor | None


def layer_bits(weight: Tensor, bias: Tensor | None) -> Bits:
    """The bits of a layer's latents, detached from the graph."""
    with torch.no_grad():
        return Bits(threshold_bits(weight), None if bias is None else threshold_bits(bias))


def start_latents(weight: Tensor, bias: Tensor | None, spread: float) -> None:
    """Start a layer's latents as the paper does, Glorot-uniform weights (times `spread`) and zero biases."""
    nn.init.xavier_uniform_(weight, gain=spread)
    if bias is not None:
        nn.init.zeros_(bias)


def check_choices(layer: str, values: str, normalize: str | None, latent_spread: float = 1.0) -> None:
    """Raise ValueError where a layer's `values` or `normalize` is none of the known, or its spread is not positive."""
    if not latent_spread > 0:
        raise ValueError(f"[{layer}] latent_spread={latent_spread}: use a number above 0")
    if values not in VALUES:
        raise ValueError(f"[{layer}] values={values!r}: use '01' or 'pm1'")
    if normalize is not None and normalize not in OVERS:
        raise ValueError(f"[{layer}] normalize={normalize!r}: use 'channel', 'example', 'batch' or None")
