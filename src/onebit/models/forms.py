"""How a transformer of bits is put together: three forms, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from onebit.errors import shown
from onebit.quantizers import MeanThreshold
from onebit.schemes import BinaryNormalized, BinaryWeightNetwork, PureBits, Scheme


@dataclass(frozen=True)
class Form:
    """What the blocks and layers of a transformer are made of. A converted network takes only the schemes and `learned_norms`.

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


def form_named(where: str, name: Any) -> Form:
    """A form by its name. Raises ValueError if there is none of that name."""
    if not isinstance(name, str) or name not in FORMS:
        raise ValueError(f"[{where}] form={shown(name)}: use {', '.join(FORMS)}")
    return FORMS[name]


def usual_form(scheme: Scheme | None) -> str:
    """The name of the form that goes with a scheme: the paper's normalises the sums of each layer, and `best` those before each branch."""
    return "best" if scheme is None or scheme.normalize is None else "paper"


def check_scheme(where: str, name: str, scheme: Scheme) -> None:
    """Refuse a scheme that a form cannot take: "all-bits" takes one that has no float for an output. Raises ValueError."""
    if name == "all-bits" and _keeps_floats(scheme):
        raise ValueError(
            f"[{where}] form='all-bits' cannot take scheme={scheme}, which keeps floats or several bits of a weight: use PureBits(), "
            "or form='best'"
        )


def _keeps_floats(scheme: Scheme) -> bool:
    weights = scheme.weights
    scaled = weights(torch.ones(2, 2), 0, False).scale is not None and not weights.constant_scale
    return scaled or weights.bits > 1 or scheme.gain or scheme.input_shift or scheme.normalize == "batch"
