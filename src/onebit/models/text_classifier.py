"""A classifier of texts: a decoder whose last layer says classes."""

from __future__ import annotations

from torch import nn

from onebit.models.decoder import LanguageDecoder, language_decoder
from onebit.schemes import Scheme


def text_classifier(
    num_classes: int,
    vocabulary: int,
    context: int = 64,
    binary: bool = True,
    scheme: Scheme | None = None,
    blocks: int = 2,
    features: int = 64,
    heads: int = 4,
) -> LanguageDecoder:
    """A language decoder with a dense layer of floats to classes in place of its head. The class of a text stands at its last token.

    Args:
        num_classes: number of logits.
        vocabulary, context, blocks, features, heads, binary, scheme: see `language_decoder`.

    Shape:
        integers (batch, time), time at most `context`, to logits (batch, time, num_classes).

    Raises:
        ValueError: as `language_decoder`.

    Example:
        >>> text_classifier(3, 259)(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 3])
    """
    sizes = {
        "vocabulary": vocabulary,
        "context": context,
        "blocks": blocks,
        "features": features,
        "heads": heads,
        "head": (),
    }
    decoder = language_decoder(sizes, binary, scheme=scheme if binary else None)
    decoder.head = nn.Sequential(nn.Linear(features, num_classes))
    decoder.logit_scale = None
    return decoder
