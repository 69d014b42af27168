"""Multi-head attention with the interface of PyTorch's own, and with binary projections."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.arguments import chosen_scheme
from onebit.nn.linear import BinaryLinear
from onebit.schemes import Scheme


class BinaryMultiheadAttention(nn.Module):
    r"""`torch.nn.MultiheadAttention` with binary dense layers as its four projections. Its arguments and results are the same.

    .. math:: \operatorname{out}(\operatorname{softmax}(Q K^T / \sqrt{d} + M) V)

    It can replace the attention in `torch.nn.Transformer` and its parts, including masks. It does not use their fast path for evaluation, which
    reads the weights directly.

    Args:
        embed_dim: features of a query and of the result.
        num_heads: the number of heads, which must divide `embed_dim`. d is embed_dim / num_heads.
        dropout: the dropout of the attention weights during training.
        bias: whether the four projections have a bias.
        kdim, vdim: the features of a key and of a value. The default is `embed_dim`.
        batch_first: use (batch, time, features) instead of (time, batch, features).
        scheme: the scheme of the projections. The default is the paper's, `BinaryNormalized`.

    Shape:
        query (target, batch, embed_dim), key (source, batch, kdim), value (source, batch, vdim) to (target, batch, embed_dim) and weights
        (batch, target, source). With `batch_first` the batch comes first. Inputs without a batch axis give results without it.

    Raises:
        ValueError: `num_heads` does not divide `embed_dim`, or the scheme normalises over the batch.

    Example:
        >>> x = torch.randn(2, 10, 64)
        >>> BinaryMultiheadAttention(64, 4, batch_first=True)(x, x, x)[0].shape
        torch.Size([2, 10, 64])

    Source: Vaswani et al., arXiv 1706.03762, section 3.2.2, as in `torch.nn.MultiheadAttention`.
    """

    # torch.nn.TransformerEncoderLayer reads these before it takes its fast path. With these values it calls the layer.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        scheme: Scheme | None = None,
    ) -> None:
        super().__init__()
        chosen = chosen_scheme("BinaryMultiheadAttention", scheme, {})
        check_attention_scheme(chosen)
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"[BinaryMultiheadAttention] num_heads={num_heads} does not divide embed_dim={embed_dim}")
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first = dropout, batch_first
        self.query = BinaryLinear(embed_dim, embed_dim, bias, scheme=chosen)
        self.key = BinaryLinear(self.kdim, embed_dim, bias, scheme=chosen)
        self.value = BinaryLinear(self.vdim, embed_dim, bias, scheme=chosen)
        self.out_proj = BinaryLinear(embed_dim, embed_dim, bias, scheme=chosen)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and results are those of `torch.nn.MultiheadAttention`. True in a bool mask forbids; float masks are added.

        Raises:
            ValueError: a shape does not fit the others, or `is_causal` comes without its mask.
        """
        if is_causal and attn_mask is None:
            raise ValueError("[BinaryMultiheadAttention] is_causal is only a hint about attn_mask: give attn_mask too")
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        # (batch, time, features) from here on
        mask = self._mask(query, key, key_padding_mask, attn_mask)
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # (batch, heads, target, source)
            weights = F.dropout(torch.softmax(scores if mask is None else scores + mask, -1), dropout)
            y = weights @ v
            if average_attn_weights:
                weights = weights.mean(1)
            weights = weights if batched else weights.squeeze(0)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        result = self.out_proj(y.transpose(1, 2).flatten(2))
        if not batched:
            return result.squeeze(0), weights
        return result if self.batch_first else result.transpose(0, 1), weights

    def _split(self, x: Tensor) -> Tensor:
        """(batch, time, features) to (batch, heads, time, features / heads)."""
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _mask(self, query: Tensor, key: Tensor, padding: Tensor | None, attention: Tensor | None) -> Tensor | None:
        """Both masks as one float mask, to be added to (batch, heads, target, source)."""
        batch, target, source = query.shape[0], query.shape[1], key.shape[1]
        mask = None
        if padding is not None:
            if padding.shape != (batch, source):
                raise ValueError(
                    f"[BinaryMultiheadAttention] key_padding_mask of shape {tuple(padding.shape)}: needs {(batch, source)}"
                )
            mask = _added(padding, query.dtype)[:, None, None]
        if attention is not None:
            allowed = ((target, source), (batch * self.num_heads, target, source))
            if attention.shape not in allowed:
                raise ValueError(
                    f"[BinaryMultiheadAttention] attn_mask of shape {tuple(attention.shape)}: needs {allowed[0]} or {allowed[1]}"
                )
            wide = _added(attention, query.dtype)
            wide = wide[None, None] if wide.dim() == 2 else wide.view(batch, self.num_heads, target, source)
            mask = wide if mask is None else mask + wide
        return mask

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as floats to add. True in a bool mask becomes minus infinity."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -math.inf)


def check_attention_scheme(scheme: Scheme) -> None:
    """Raise ValueError if a scheme does not fit the rows of attention."""
    if scheme.normalize == "batch":
        raise ValueError("[BinaryMultiheadAttention] normalize='batch' applies to images: use 'channel' or None")
