"""Causal self-attention with binary or float projections."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.arguments import chosen_scheme
from onebit.nn.linear import BinaryLinear
from onebit.schemes import Scheme

# PyTorch's fused kernel does not keep the (time, time) matrix for the backward pass but computes it again. On a CPU, a training step with
# 256 tokens takes an eighth longer with it.
LONGEST_BY_PRODUCTS = 512


class KeyValueCache:
    """The KV cache of one attention layer: the keys and values of the tokens so far, for use by new tokens.

    Args:
        room: the number of tokens to allocate memory for. It doubles when there are more.
    """

    def __init__(self, room: int = 256) -> None:
        self.length = 0
        self._room = room
        self._keys: Tensor | None = None  # (batch, heads, room, features / heads)
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens, (batch, heads, time, features / heads). Returns those of all tokens."""
        end = self.length + keys.shape[2]
        self._keys, self._values = self._grown(self._keys, keys, end), self._grown(self._values, values, end)
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def _grown(self, held: Tensor | None, new: Tensor, tokens: int) -> Tensor:
        if held is not None and held.shape[2] >= tokens:
            return held
        room = max(tokens, self._room if held is None else 2 * held.shape[2])
        grown = new.new_empty(*new.shape[:2], room, new.shape[3])
        if held is not None:
            grown[:, :, : self.length] = held[:, :, : self.length]
        return grown


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    r"""For each token, the mean of the values up to this token, weighted by :math:`\operatorname{softmax}(Q K^T / \sqrt{d})`.

    Shape:
        q, k, v: (batch, heads, time, d), to the same.
    """
    time = q.shape[2]
    if q.device.type != "cpu" or not torch.is_grad_enabled() or time > LONGEST_BY_PRODUCTS:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    unseen = torch.ones(time, time, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(unseen, -math.inf).softmax(-1).to(v.dtype) @ v


class CausalAttention(nn.Module):
    r"""Multi-head self-attention in which a token sees itself and the tokens before it.

    .. math:: \operatorname{out}(\operatorname{softmax}(Q K^T / \sqrt{d} + M) V), \qquad M_{ij} = 0 \text{ for } j \le i, \text{ else } -\infty

    Args:
        features: the features of a token.
        heads: the number of heads, which must divide `features`. d is features / heads.
        linear: a function that makes a dense layer of (in, out) features.

    Shape:
        (batch, time, features) to the same.

    Raises:
        ValueError: `heads` does not divide `features`.

    Source: arXiv 2509.07025, algorithm 6. Its mask adds -1e-10, which masks nothing: it must mean minus infinity.
    """

    def __init__(self, features: int, heads: int, linear: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        if heads < 1 or features % heads:
            raise ValueError(f"[{type(self).__name__}] heads={heads} does not divide features={features}")
        self.heads = heads
        self.query = linear(features, features)
        self.key = linear(features, features)
        self.value = linear(features, features)
        self.out = linear(features, features)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """With a cache, `x` contains only new tokens, which follow the tokens in the cache."""
        q, k, v = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        if cache is None:
            y = causal_attention(q, k, v)
        else:
            past = cache.length
            k, v = cache.append(k, v)
            seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=x.device).tril(past)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if q.shape[2] == 1 else seen)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """(batch, time, features) to (batch, heads, time, features / heads)."""
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class BinaryAttention(CausalAttention):
    """Causal self-attention with binary dense layers as its four projections.

    Args:
        features, heads: see `CausalAttention`.
        scheme: the scheme of the projections; see `BinaryLinear`.

    Example:
        >>> BinaryAttention(64, heads=4)(torch.randn(2, 10, 64)).shape
        torch.Size([2, 10, 64])

    Source: arXiv 2509.07025, algorithm 6.
    """

    def __init__(self, features: int, heads: int, *, scheme: Scheme | None = None, **old: Any) -> None:
        chosen = chosen_scheme("BinaryAttention", scheme, old)
        super().__init__(features, heads, lambda inputs, outputs: BinaryLinear(inputs, outputs, scheme=chosen))
