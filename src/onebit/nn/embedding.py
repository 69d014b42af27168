"""Embeddings of single bits: table look-ups, never one-hot products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.bits import Bits, choose_scheme, compute, layer_bits, set_up, start_latents
from onebit.nn.normalize import Normalize
from onebit.normalize import Over
from onebit.quantizers import Values
from onebit.schemes import Scheme


class BinaryEmbedding(nn.Embedding):
    r"""A table of single bits, followed by a normalisation: what a binary dense layer makes of a one-hot vector.

    .. math:: y = \operatorname{Normalize}(W_b[token] + b_b)

    Args:
        num_embeddings: rows of the table.
        embedding_dim: features of a row.
        bias: whether to add a (binary) bias.
        values: ``"01"`` or ``"pm1"``, how a bit reads.
        normalize: ``"channel"`` (over the features of each token) or None.
        eps: of the normalisation.
        latent_spread: of the initial latents, as a multiple of Glorot's. A bit flips when its latent crosses the mean; the row of a rare token
            seldom gets a gradient, so that a small spread lets it learn (0.1 measured best in language models).
        scheme: another method, as `BinaryLinear`'s; what it does to activations does not concern tokens. The features are the outputs that
            scales are for.

    Shape:
        integers (batch, time) to (batch, time, embedding_dim).

    Raises:
        ValueError: an option is unknown or out of range.

    Example:
        >>> BinaryEmbedding(1000, 64)(torch.tensor([[1, 5, 999]])).shape
        torch.Size([1, 3, 64])

    Source: arXiv 2509.07025, algorithm 4.
    """

    scheme: Scheme
    normalize: Normalize | None
    threshold: nn.Parameter | None
    gain: nn.Parameter | None

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        bias: bool = True,
        values: Values = "01",
        normalize: Over | None = "channel",
        eps: float = 1e-5,
        latent_spread: float = 1.0,
        scheme: Scheme | None = None,
    ) -> None:
        chosen = scheme_of_tokens(choose_scheme("BinaryEmbedding", scheme, values, normalize, eps, latent_spread))
        self.latent_spread = latent_spread  # before the base class starts the latents
        super().__init__(num_embeddings, embedding_dim)
        self.bias = nn.Parameter(torch.zeros(embedding_dim)) if bias else None
        set_up(self, chosen, num_embeddings, embedding_dim, axis=1)

    def reset_parameters(self) -> None:
        start_latents(self.weight, None, self.latent_spread)

    def bits(self) -> Bits:
        """The bits of the table ([planes,] num_embeddings, embedding_dim) and of the bias (embedding_dim), as bool tensors."""
        return layer_bits(self.weight, self.bias, self.scheme, axis=1)

    def forward(self, tokens: Tensor) -> Tensor:
        def look_up(rows: Tensor, table: Tensor, bias: Tensor | None) -> Tensor:
            y = F.embedding(rows, table, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)
            return y if bias is None else y + bias

        return compute(self, tokens, look_up, axis=1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scheme={self.scheme}"


def scheme_of_tokens(scheme: Scheme) -> Scheme:
    """What a scheme is for an embedding: a token is no number to quantise.

    Raises:
        ValueError: it normalises over the batch.
    """
    if scheme.normalize == "batch":
        raise ValueError("[BinaryEmbedding] normalize='batch' is for images: use 'channel' or None")
    return replace(scheme, activations=None, input_normalize=False, input_shift=False, input_scale=False)


class TokenPositionEmbedding(nn.Module):
    r"""The sum of an embedding of the token and one of its position.

    .. math:: y_t = \operatorname{tokens}(x_t) + \operatorname{positions}(t)

    Args:
        vocabulary: number of tokens.
        context: number of positions.
        features: of the result.
        table: makes an embedding of (rows, features); default `BinaryEmbedding`, ``nn.Embedding`` for a float twin.

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
    ) -> None:
        super().__init__()
        self.context = context
        self.tokens = table(vocabulary, features)
        self.positions = table(context, features)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        time = x.shape[-1]
        if start + time > self.context:
            raise ValueError(
                f"[TokenPositionEmbedding] {start + time} positions: this model has {self.context}; give it fewer tokens"
            )
        y: Tensor = self.tokens(x) + self.positions(torch.arange(start, start + time, device=x.device))
        return y
