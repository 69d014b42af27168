"""Causal self-attention with binary or float projections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.arguments import chosen_scheme
from onebit.nn.linear import BinaryLinear
from onebit.nn.rotary import RotaryPositions, check_turned
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
        q: (batch, heads, time, d), to the same; k, v: the same, or with fewer heads, each of which serves as many neighbouring heads of q.
    """
    time = q.shape[2]
    k, v = _for_each_head(k, q), _for_each_head(v, q)
    if q.device.type != "cpu" or not torch.is_grad_enabled() or time > LONGEST_BY_PRODUCTS:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    unseen = torch.ones(time, time, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(unseen, -math.inf).softmax(-1).to(v.dtype) @ v


def _for_each_head(x: Tensor, q: Tensor) -> Tensor:
    """Keys or values with as many heads as the queries: each head is there for all queries that it serves."""
    return x if x.shape[1] == q.shape[1] else x.repeat_interleave(q.shape[1] // x.shape[1], 1)


class CausalAttention(nn.Module):
    r"""Multi-head self-attention in which a token sees itself and the tokens before it.

    .. math:: \operatorname{out}(\operatorname{softmax}(Q K^T / \sqrt{d} + M) V), \qquad M_{ij} = 0 \text{ for } j \le i, \text{ else } -\infty

    Args:
        features: the features of a token.
        heads: the number of heads. d is features / heads, which must be whole, unless `head_size` is given.
        linear: a function that makes a dense layer of (in, out) features.
        kv_heads: the number of heads of the keys and values, which must divide `heads`: each serves heads / kv_heads heads of the queries. None
            for `heads`.
        rotary: whether queries and keys are turned by their positions, or the options of `RotaryPositions`.
        norm: a function that makes a normalisation of a number of features, for the input of the last projection (SubLN); None for none.
        head_size: d; None for features / heads.
        head_norm: a function that makes a normalisation of a number of features, for each head of the queries and of the keys; None for none.

    Shape:
        (batch, time, features) to the same.

    Raises:
        ValueError: `heads` does not divide `features`, `kv_heads` does not divide `heads`, or d is odd and is to be turned.

    Source: arXiv 2509.07025, algorithm 6. Its mask adds -1e-10, which masks nothing: it must mean minus infinity. Grouped heads: arXiv
    2305.13245; SubLN: arXiv 2210.06423.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        linear: Callable[[int, int], nn.Module],
        *,
        kv_heads: int | None = None,
        rotary: bool | Mapping[str, Any] = False,
        norm: Callable[[int], nn.Module] | None = None,
        head_size: int | None = None,
        head_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if heads < 1 or (head_size is None and features % heads):
            raise ValueError(f"[{name}] heads={heads} does not divide features={features}")
        kv_heads = heads if kv_heads is None else kv_heads
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"[{name}] kv_heads={kv_heads} does not divide heads={heads}: use a divisor")
        d = features // heads if head_size is None else head_size
        turning = rotary if isinstance(rotary, Mapping) else {}
        if rotary is not False:
            check_turned(name, d if turning.get("rotated") is None else turning["rotated"], d)
        self.heads = heads
        self.kv_heads = kv_heads
        self.query = linear(features, heads * d)
        self.key = linear(features, kv_heads * d)
        self.value = linear(features, kv_heads * d)
        self.query_norm = None if head_norm is None else head_norm(d)
        self.key_norm = None if head_norm is None else head_norm(d)
        self.turn_query = None if rotary is False else RotaryPositions(heads, **turning)
        self.turn_key = None if rotary is False else RotaryPositions(kv_heads, **turning)
        self.out_norm = None if norm is None else norm(heads * d)
        self.out = linear(heads * d, features)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """With a cache, `x` contains only new tokens, which follow the tokens in the cache."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        q, k = self._normed(q, self.query_norm, self.heads), self._normed(k, self.key_norm, self.kv_heads)
        past = 0 if cache is None else cache.length
        if self.turn_query is not None and self.turn_key is not None:
            q, k = self.turn_query(q, past), self.turn_key(k, past)
        q, k, v = _split(q, self.heads), _split(k, self.kv_heads), _split(v, self.kv_heads)
        if cache is None:
            y = causal_attention(q, k, v)
        else:
            k, v = cache.append(k, v)
            seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=x.device).tril(past)
            k, v = _for_each_head(k, q), _for_each_head(v, q)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if q.shape[2] == 1 else seen)
        y = y.transpose(1, 2).flatten(2)
        result: Tensor = self.out(y if self.out_norm is None else self.out_norm(y))
        return result

    @staticmethod
    def _normed(x: Tensor, norm: nn.Module | None, heads: int) -> Tensor:
        """Each head of queries or keys (batch, time, heads * d) normalised by itself, if there is a norm."""
        return x if norm is None else norm(x.view(*x.shape[:-1], heads, -1)).flatten(-2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}" + ("" if self.kv_heads == self.heads else f", kv_heads={self.kv_heads}")


def _split(x: Tensor, heads: int) -> Tensor:
    """(batch, time, features) to (batch, heads, time, features / heads)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)


class BinaryAttention(CausalAttention):
    """Causal self-attention with binary dense layers as its four projections.

    Args:
        features, heads, kv_heads, rotary, norm: see `CausalAttention`.
        scheme: the scheme of the projections; see `BinaryLinear`.

    Example:
        >>> BinaryAttention(64, heads=4)(torch.randn(2, 10, 64)).shape
        torch.Size([2, 10, 64])

    Source: arXiv 2509.07025, algorithm 6.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        rotary: bool = False,
        norm: Callable[[int], nn.Module] | None = None,
        scheme: Scheme | None = None,
        **old: Any,
    ) -> None:
        chosen = chosen_scheme("BinaryAttention", scheme, old)

        def linear(inputs: int, outputs: int) -> nn.Module:
            return BinaryLinear(inputs, outputs, scheme=chosen)

        super().__init__(features, heads, linear, kv_heads=kv_heads, rotary=rotary, norm=norm)
