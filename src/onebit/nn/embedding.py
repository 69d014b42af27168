"""Binary embeddings, as table look-ups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.arguments import chosen_scheme
from onebit.nn.binary import BinaryLayer
from onebit.schemes import Scheme


class BinaryEmbedding(BinaryLayer, nn.Embedding):
    r"""A table of bits, followed by a normalisation. It equals a binary dense layer on one-hot vectors.

    .. math:: y = \operatorname{Normalize}(W_b[token] + b_b)

    Args:
        num_embeddings: the number of rows of the table.
        embedding_dim: the features of a row.
        bias: whether to add a (binary) bias.
        scheme: a scheme of `onebit.schemes`. The default is the paper's, `BinaryNormalized()`. Its quantizer of activations does not apply to
            tokens. Features are the outputs that have scales. A bit flips when its latent weight crosses the mean. The row of a rare token
            seldom gets a gradient, so latent weights that start near the mean learn better (``latent_spread=0.1`` measured best in language
            models).

    Shape:
        integers (batch, time) to (batch, time, embedding_dim).

    Raises:
        ValueError: the scheme is not a scheme, or normalises over the batch.

    Example:
        >>> BinaryEmbedding(1000, 64)(torch.tensor([[1, 5, 999]])).shape
        torch.Size([1, 3, 64])

    Source: arXiv 2509.07025, algorithm 4.
    """

    output_axis = 1

    def __init__(
        self, num_embeddings: int, embedding_dim: int, bias: bool = True, *, scheme: Scheme | None = None, **old: Any
    ) -> None:
        self.scheme = chosen_scheme("BinaryEmbedding", scheme, old)
        super().__init__(num_embeddings, embedding_dim)
        self.bias = nn.Parameter(torch.zeros(embedding_dim)) if bias else None
        self.set_up()

    def fitting(self, scheme: Scheme) -> Scheme:
        """Tokens are not quantised."""
        if scheme.normalize == "batch":
            raise ValueError("[BinaryEmbedding] normalize='batch' applies to images: use 'channel' or None")
        if self.max_norm is not None:
            raise ValueError(
                "max_norm rescales the latent weights in each pass, which does not change bits: leave it out"
            )
        if self.sparse:
            raise ValueError("sparse=True: bits depend on all latent weights, so the gradient is dense")
        return replace(scheme, activations=None, input_normalize=False, input_shift=False, input_scale=False)

    def product(self, tokens: Tensor, table: Tensor, bias: Tensor | None) -> Tensor:
        y = F.embedding(tokens, table, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)
        return y if bias is None else y + bias


class TokenPositionEmbedding(nn.Module):
    r"""The sum of an embedding of the token and an embedding of its position.

    .. math:: y_t = \operatorname{tokens}(x_t) + \operatorname{positions}(t)

    Networks that turn their queries and keys by the position (see `RotaryPositions`) need only the first.

    Args:
        vocabulary: number of tokens.
        context: number of positions.
        features: the features of the result.
        table: a function that makes an embedding of (rows, features): `BinaryEmbedding` by default, ``nn.Embedding`` for a float twin.
        learned_positions: whether positions have an embedding.

    Shape:
        integers (batch, time) to (batch, time, features); time + `start` at most `context`.

    Raises:
        ValueError: there are more positions than `context`.

    Source: arXiv 2509.07025, algorithm 4.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        features: int,
        table: Callable[[int, int], nn.Module] = BinaryEmbedding,
        learned_positions: bool = True,
    ) -> None:
        super().__init__()
        self.context = context
        self.tokens = table(vocabulary, features)
        self.positions = table(context, features) if learned_positions else None

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        time = x.shape[-1]
        if start + time > self.context:
            raise ValueError(
                f"[TokenPositionEmbedding] {start + time} positions: this model has {self.context}; give it fewer tokens"
            )
        y: Tensor = self.tokens(x)
        if self.positions is None:
            return y
        return y + self.positions(torch.arange(start, start + time, device=x.device))
