"""Recipes for language models."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from onebit.errors import RecipeError
from onebit.training.recipe.recipe import Recipe
from onebit.training.recipe.section import key
from onebit.training.recipe.shared import Data, Execution, Model, Optimizer, Schedule, SchemeParts, Teaching
from onebit.training.recipe.values import require

# What a form decides where a recipe says nothing.
OF_FORM = ("residual_scale", "logit_scale", "embedding_widening", "pre_norm")
# What a decoder's blocks are made of, with what they are in the paper.
OF_BLOCKS: dict[str, Any] = {
    "norm": "layer",
    "positions": "learned",
    "mlp": "plain",
    "kv_heads": None,
    "activation": None,
    "hidden_widening": 2.0,
    "sub_norm": False,
}


@dataclass(frozen=True)
class TextData(Data):
    """The texts, and how they are divided into examples."""

    source: str = key(
        "python",
        "python (documentation and sources of the interpreter), wikitext-2, wikitext-103, a text file, or a folder of text files",
        short="data",
    )
    validation_data: str | None = key(
        None,
        "another source to validate on; null: the data set's own part, or else validation_share of the training text",
    )
    validation_share: float = key(
        0.05,
        "share of the documents to validate on (of a single file, its end), unless validation_data is given",
        above=0,
        below=1,
    )
    validation_tokens: int | None = key(
        None,
        "evaluate at most so many tokens after each epoch; null: all. The last evaluation takes all",
        least=1,
    )
    vocabulary: int | str = key(
        1024,
        "how many WordPiece tokens to make from the training text, or a vocab.txt in BERT's form",
        least=259,
    )
    examples: Literal["windows", "sentences"] = key(
        "windows",
        "windows: stretches of text without padding; sentences: a line each, cut and padded to the context, as in the paper",
    )
    count_padding: bool = key(
        False,
        "train on padding too, as the paper seems to; with sentences only. Figures never count padding",
    )

    def check(self) -> None:
        fits = not (self.count_padding and self.examples == "windows")
        require(fits, "count_padding", True, "examples=sentences with it")


@dataclass(frozen=True)
class TextModel(Model):
    """The network, and its sizes."""

    name: Literal["decoder", "lstm", "gru"] = key(
        "decoder",
        "decoder: the paper's network (`onebit.models.language_decoder`); lstm or gru: `onebit.models.language_lstm`",
        short="model",
    )
    size: Literal["tiny", "mini", "books", "small", "large"] = key(
        "tiny", "sizes of the network where no other key says otherwise"
    )
    context: int | None = key(None, "tokens that the network can look at; null: as the size has it", least=1)
    blocks: int | None = key(
        None, "blocks of a decoder, or layers of an lstm or gru; null: as the size has it", least=1
    )
    features: int | None = key(None, "features of each token; null: as the size has it", least=1)
    heads: int | None = key(
        None, "heads of attention, a divisor of features; null: as the size has it. Of a decoder", least=1
    )
    head: tuple[int, ...] | None = key(
        None,
        "widths of the dense layers before the last; null: as the size has it, or without them in an lstm or gru",
        least=1,
    )
    hidden: int | None = key(None, "size of the state of an lstm or gru; null: features", least=1)
    form: Literal["best", "all-bits", "paper"] | None = key(
        None,
        "how a decoder is put together: best (learned norms before each branch, a float scale and bias of each output), all-bits (the same with "
        "constants instead of these floats) or paper (its letter). Each has a scheme of its own. Null: best, or paper with keys of its scheme",
    )
    residual_scale: float | None = key(
        None, "weight of each branch of a block before it is added; null: as the form has it. Of a decoder", above=0
    )
    embedding_widening: int | None = key(
        None, "embeddings have so many times the features; null: as the form has it", least=1
    )
    head_widening: int = key(1, "the dense layers before the last are so many times as wide", least=1)
    embedding_spread: float = key(
        1.0, "spread of the initial latents of embeddings, as a multiple of Glorot's", above=0
    )
    pre_norm: bool | None = key(
        None, "normalise before each branch rather than after each sum; null: as the form has it. Of a decoder"
    )
    norm: Literal["layer", "rms"] = key(
        "layer",
        "normalisations between a decoder's layers: layer (mean and deviation) or rms (root mean square)",
    )
    positions: Literal["learned", "rotary"] = key(
        "learned", "positions of a decoder: a learned table, or rotary: queries and keys are turned by their position"
    )
    mlp: Literal["plain", "gated"] = key(
        "plain",
        "dense layers of a decoder's block: two, or gated: a third one's activation multiplies the hidden layer",
    )
    kv_heads: int | None = key(
        None, "heads of keys and values, a divisor of heads; null: as many as heads. Of a decoder", least=1
    )
    activation: Literal["gelu", "silu", "relu_squared"] | None = key(
        None, "activation of the hidden layer of a decoder's block; null: gelu, or silu with mlp=gated"
    )
    hidden_widening: float = key(2.0, "the hidden layer of a decoder's block has so many times the features", above=0)
    sub_norm: bool = key(False, "normalise before the last dense layer of each branch too (SubLN). Of a decoder")
    hybrid: bool = key(False, "the embedding and the last layer of an lstm or gru stay float")
    binary_hidden: bool = key(False, "the hidden state of an lstm or gru is one bit in its recurrent product")

    def check(self) -> None:
        require(self.name == "decoder" or self.form in (None, "paper"), "form", self.form, "it with model=decoder")
        for name, usual in OF_BLOCKS.items():
            fits = self.name == "decoder" or getattr(self, name) == usual
            require(fits, name, getattr(self, name), "it with model=decoder")
        for name, usual in (("hidden", None), ("hybrid", False), ("binary_hidden", False)):
            fits = self.name != "decoder" or getattr(self, name) == usual
            require(fits, name, getattr(self, name), "it with model=lstm or model=gru")


@dataclass(frozen=True)
class TextScheme(SchemeParts):
    """The scheme of the binary layers, and parts of it that the recipe changes; any other option of the scheme is a key too."""

    name: str = key(
        "",
        "the method that makes bits of latents, one of `onebit.schemes`. Where none is named it is that of a decoder's form, and BinaryNormalized "
        "of lstm and gru",
        short="scheme",
    )

    @property
    def is_papers(self) -> bool:
        """Whether it says something that only the paper's method has."""
        return self.name in ("BinaryNormalized", "Bipolar") or self.values is not None or self.threshold is not None


# The schemes of the forms of a decoder, by their names; `onebit.models.forms` has them as they are.
SCHEME_OF_FORM = {"best": "BinaryWeightNetwork", "all-bits": "PureBits", "paper": "BinaryNormalized"}


@dataclass(frozen=True)
class TextSchedule(Schedule):
    """How long is trained, and how the learning rate rises and falls."""

    epoch_steps: int | None = key(
        None,
        "steps between two evaluations, which make an epoch; null: one pass over the training text",
        least=1,
    )


@dataclass(frozen=True)
class TextExecution(Execution):
    """How the machine trains."""

    checkpoint_activations: bool = key(
        False,
        "compute the inside of each block of a decoder again on the way back: less memory, a third more work",
    )


@dataclass(frozen=True, init=False)
class TextRecipe(Recipe):
    """What decides the training of a language model; optimised by AdamW."""

    kind: ClassVar[str] = "text"
    shardable: ClassVar[bool] = True
    decoupled_weight_decay: ClassVar[bool] = True

    data: TextData
    model: TextModel
    scheme: TextScheme
    optimizer: Optimizer
    schedule: TextSchedule
    teacher: Teaching
    run: TextExecution

    def _check(self) -> None:
        decoder = self.model.name == "decoder"
        form = self.model.form or (None if not decoder else "paper" if self.scheme.is_papers else "best")
        if form != self.model.form:
            model = copy(self.model)  # its keys are checked already
            object.__setattr__(model, "form", form)
            object.__setattr__(self, "model", model)
        if not self.scheme.name:
            object.__setattr__(self, "scheme", replace(self.scheme, name=SCHEME_OF_FORM[form or "paper"]))
        super()._check()
        fits = decoder or not self.run.checkpoint_activations
        require(fits, "checkpoint_activations", True, "it with model=decoder")
        fits = form != "all-bits" or not self.model.learned_scales
        require(fits, "learned_scales", True, "form=best with it: a learned scale is a float of each output")
        if form is not None and self.model.binary:
            _check_scheme(form, self.scheme.made)

    def _dropped(self, section: str, changes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """What a recipe says of its scheme stands for that scheme only; the spread of the latents stands for any.

        Another form has a scheme of its own, and what goes with it. So has a network of another kind.
        """
        name = changes.get("model", {}).get("name", self.model.name)
        form = changes.get("model", {}).get("form", self.model.form)
        if (name == "decoder") != (self.model.name == "decoder") or form != self.model.form:
            if section == "model":
                return {"form": None, **dict.fromkeys(OF_FORM), "embedding_spread": 1.0}
            return vars(TextScheme()) if section == "scheme" else {}
        if section != "scheme" or "name" not in changes.get("scheme", {}):
            return {}
        return {"values": None, "threshold": None, "latent_clip": None, "options": {}}


def _check_scheme(form: str, scheme: Any) -> None:
    from onebit.models.forms import check_scheme

    try:
        check_scheme("model", form, scheme)
    except ValueError as error:
        raise RecipeError(str(error)) from None
