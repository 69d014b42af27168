"""Recurrent networks: a classifier of sequences and a language model, and their float twins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from onebit.models.parts import check, dense, last
from onebit.nn import BinaryEmbedding, BinaryGRU, BinaryLSTM, ImageRows
from onebit.nn.arguments import chosen_scheme
from onebit.schemes import Scheme

CELLS = ("lstm", "gru")
Recurrent = BinaryLSTM | BinaryGRU | nn.LSTM | nn.GRU


class SequenceClassifier(nn.Module):
    """Recurrent layers, and a dense layer that reads their last step. `sequence_classifier` builds it."""

    def __init__(
        self, steps: nn.Module, recurrent: Recurrent, head: nn.Module, logit_scale: float | None = None
    ) -> None:
        super().__init__()
        self.steps = steps
        self.recurrent = recurrent
        self.head = head
        self.logit_scale = logit_scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.recurrent(self.steps(x))[0]  # (batch, time, hidden)
        logits: Tensor = self.head(y[:, -1])  # (batch, classes)
        return logits if self.logit_scale is None else logits * self.logit_scale


class RecurrentLanguageModel(nn.Module):
    """Embedding, recurrent layers and dense layers. `language_lstm` builds it.

    Args:
        context: the number of tokens that it is trained on and packed for. Its state can carry information further.
    """

    def __init__(
        self,
        context: int,
        embedding: nn.Module,
        recurrent: Recurrent,
        head: nn.Sequential,
        logit_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.context = context
        self.embedding = embedding
        self.recurrent = recurrent
        self.head = head
        self.logit_scale = logit_scale

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn integers (batch, time) into the logits of each next token (batch, time, vocabulary)."""
        logits: Tensor = self.head(self.recurrent(self.embedding(tokens))[0])
        return logits if self.logit_scale is None else logits * self.logit_scale


def sequence_classifier(
    features: int,
    num_classes: int = 10,
    hidden: int = 128,
    layers: int = 1,
    cell: str = "lstm",
    image: bool = False,
    scheme: Scheme | None = None,
    hybrid: bool = True,
    binary_hidden: bool = False,
    logit_scale: float | None = None,
) -> SequenceClassifier:
    """A recurrent classifier of sequences, or of images read line by line.

    Args:
        features: the features of a step; for an image, width * channels.
        num_classes: number of logits.
        hidden, layers: the state features and the layers of the LSTM or GRU.
        cell: ``"lstm"`` or ``"gru"``.
        image: the input is an image, and its lines from top to bottom are the steps.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the last layer stays float. False makes it binary too.
        binary_hidden: see `BinaryLSTM`.
        logit_scale: a constant that multiplies the logits.

    Shape:
        (batch, time, features), or an image (batch, channels, height, width), to (batch, num_classes).

    Raises:
        ValueError: a size is not above 0, or the cell is unknown.

    Example:
        >>> from onebit.schemes import BinaryNormalized
        >>> sequence_classifier(28, image=True, scheme=BinaryNormalized())(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Source: images as sequences are from Le et al., arXiv 1504.00941, where each pixel is a step.
    """
    check("sequence_classifier", features=features, num_classes=num_classes, hidden=hidden, layers=layers)
    recurrent = _recurrent("sequence_classifier", cell, features, hidden, layers, scheme, binary_hidden)
    steps = ImageRows() if image else nn.Identity()
    return SequenceClassifier(steps, recurrent, dense(last(scheme, hybrid), hidden, num_classes), logit_scale)


def language_lstm(
    vocabulary: int,
    context: int = 128,
    features: int = 256,
    hidden: int = 256,
    layers: int = 1,
    head: tuple[int, ...] = (),
    cell: str = "lstm",
    *,
    scheme: Scheme | None = None,
    hybrid: bool = False,
    binary_hidden: bool = False,
    logit_scale: float | None = None,
    embedding_spread: float = 1.0,
    **old: Any,
) -> RecurrentLanguageModel:
    """A recurrent language model: embedding, LSTM or GRU, and dense layers to the logits.

    Args:
        vocabulary: number of tokens.
        context: the tokens of a training example, and the most tokens of a text in a packed file.
        features: the features of the embedding.
        hidden, layers: the state features and the layers of the LSTM or GRU.
        head: the features of the dense layers before the last. A GELU follows each, or a hard tanh if the scheme takes the signs of inputs.
        cell: ``"lstm"`` or ``"gru"``.
        scheme: a scheme of `onebit.schemes`; None gives the float twin.
        hybrid: the embedding and the last layer stay float. Otherwise bare signs (BinaryNet, BinaryConnect) need a small `logit_scale`.
        binary_hidden: see `BinaryLSTM`.
        logit_scale: a constant that multiplies the logits of a binary network. Normalised logits have unit deviation, which limits confidence.
        embedding_spread: the spread of the initial latent weights of the embedding, as a multiple of Glorot's. For the other layers it is the
            scheme's `latent_spread`.

    Shape:
        integers (batch, time) to logits (batch, time, vocabulary).

    Raises:
        ValueError: a size is not above 0, or the cell is unknown.

    Example:
        >>> from onebit.schemes import BinaryNormalized
        >>> language_lstm(1000, scheme=BinaryNormalized())(torch.zeros(2, 7, dtype=torch.long)).shape
        torch.Size([2, 7, 1000])

    Source: Ardakani et al., arXiv 1809.11086, section 5, with a float embedding and a float last layer.
    """
    sizes = {"vocabulary": vocabulary, "context": context, "features": features, "hidden": hidden, "layers": layers}
    check("language_lstm", **sizes, **({"head": head} if head else {}))
    if scheme is not None or old:
        chosen = chosen_scheme("language_lstm", scheme, old)
        scheme = chosen if scheme is not None else None  # a float twin does not have latent weights
    ends = last(scheme, hybrid)
    recurrent = _recurrent("language_lstm", cell, features, hidden, layers, scheme, binary_hidden)
    dense_layers: list[nn.Module] = []
    width = hidden
    for outputs in head:
        # Far below zero a GELU is zero except for rounding errors, and their sign has no meaning.
        signs = scheme is not None and scheme.binary_activations
        dense_layers += [dense(scheme, width, outputs), nn.Hardtanh() if signs else nn.GELU()]
        width = outputs
    dense_layers.append(dense(ends, width, vocabulary))
    return RecurrentLanguageModel(
        context,
        _table(ends, vocabulary, features, embedding_spread),
        recurrent,
        nn.Sequential(*dense_layers),
        logit_scale if scheme is not None else None,
    )


def _recurrent(
    name: str,
    cell: str,
    inputs: int,
    hidden: int,
    layers: int,
    scheme: Scheme | None,
    binary_hidden: bool,
) -> Recurrent:
    if cell not in CELLS:
        raise ValueError(f"[{name}] cell={cell!r}: use 'lstm' or 'gru'")
    if scheme is None:
        return (nn.LSTM if cell == "lstm" else nn.GRU)(inputs, hidden, layers, batch_first=True)
    made = BinaryLSTM if cell == "lstm" else BinaryGRU
    return made(inputs, hidden, layers, scheme=scheme, binary_hidden=binary_hidden)


def _table(scheme: Scheme | None, rows: int, width: int, spread: float) -> nn.Module:
    if scheme is None:
        return nn.Embedding(rows, width)
    return BinaryEmbedding(rows, width, scheme=replace(scheme, latent_spread=spread))
