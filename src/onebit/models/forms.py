"""How a decoder of bits is put together: three forms, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onebit.errors import shown
from onebit.quantizers import MeanThreshold
from onebit.schemes import BinaryNormalized, BinaryWeightNetwork, PureBits, Scheme


@dataclass(frozen=True)
class Form:
    """What a decoder's blocks and layers are made of.

    Args:
        scheme: of the dense layers.
        tables: of the embeddings; None: the scheme of the dense layers.
        bias: whether dense layers have a bias.
        table_bias: whether embeddings have one.
        learned_norms: layer normalisations with a learned scale and shift, instead of normalisations without parameters.
        pre_norm, residual_scale, logit_scale, embedding_widening: see `language_decoder`.
    """

    scheme: Scheme
    tables: Scheme | None = None
    bias: bool = True
    table_bias: bool = True
    learned_norms: bool = False
    pre_norm: bool = False
    residual_scale: float = 1.0
    logit_scale: float | None = None
    embedding_widening: int = 1


# At one size the last two have the same bits. "best" also keeps the norms and a scale and a bias of each output.
FORMS: dict[str, Form] = {
    "paper": Form(BinaryNormalized()),
    "best": Form(
        BinaryWeightNetwork(),
        table_bias=False,
        learned_norms=True,
        pre_norm=True,
        residual_scale=0.35,
        embedding_widening=2,
    ),
    "all-bits": Form(
        PureBits(),
        # Rows of a table are not sums: the constant gives the sum of two of them unit deviation.
        tables=PureBits(weights=MeanThreshold("bipolar", scale=0.7)),
        bias=False,
        table_bias=False,
        pre_norm=True,
        residual_scale=0.35,
        logit_scale=3.0,
        embedding_widening=2,
    ),
}


def form_named(name: Any) -> Form:
    """A form by its name. Raises ValueError if there is none of that name."""
    if not isinstance(name, str) or name not in FORMS:
        raise ValueError(f"[language_decoder] form={shown(name)}: use {', '.join(FORMS)}")
    return FORMS[name]
