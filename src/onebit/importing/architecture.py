"""The language models that onebit runs, by their sizes and options, and what the others lack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.errors import ForeignModelError
from onebit.strict_json import excerpt

MAX_SIZE = 1 << 24
MAX_LAYERS = 1 << 10

# What onebit lacks for models that people may well give it, by a part of the name of their architecture, the longer parts first.
LACKING: dict[str, str] = {
    "qwen35": "gated delta rules, causal convolutions and gated attention",
    "qwen3next": "gated delta rules, causal convolutions and gated attention",
    "qwen3_next": "gated delta rules, causal convolutions and gated attention",
    "qwen3_5": "gated delta rules, causal convolutions and gated attention",
    "moe": "mixtures of experts, of which a router chooses some for each token",
    "mixtral": "mixtures of experts, of which a router chooses some for each token",
    "maple": "mixtures of experts, of which a router chooses some for each token",
    "deepseek": "latent attention and mixtures of experts",
    "mamba": "state-space recurrences",
    "rwkv": "recurrences with decay",
    "jamba": "state-space recurrences",
    "falcon-h1": "state-space recurrences",
    "falcon_h1": "state-space recurrences",
    "gemma": "scaled embeddings, norms after each branch, and gelu gates",
    "minicpm": "scaled embeddings, branches and logits",
    "granite": "scaled embeddings, branches and logits",
    "phi3": "fused matrices of queries, keys and values",
    "gpt2": "learned positions and norms with a mean (give it to onebit.convert instead)",
    "t5": "an encoder with relative positions",
    "bert": "an encoder, which sees later tokens",
}


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: what the op `rotary` takes, without the heads."""

    base: float
    rotated: int
    scaling: dict[str, Any] | None = None

    def __str__(self) -> str:
        plain = f"base {self.base:g}, {self.rotated} features of a head"
        if self.scaling is None:
            return f"{plain}, not scaled"
        rest = ", ".join(f"{name} {value:g}" for name, value in self.scaling.items() if name != "kind")
        return f"{plain}, scaled by {self.scaling['kind']} ({rest})"


@dataclass(frozen=True)
class Architecture:
    """The sizes and the options of a language model.

    Args:
        family: ``"llama"``, ``"qwen2"``, ``"qwen3"`` or ``"bitnet"``.
        layers: the number of blocks.
        width: the features of a token between blocks.
        hidden: the features inside the feed-forward part.
        heads, kv_heads: the numbers of heads of queries, and of keys and values.
        head_size: the features of a head.
        vocabulary: the number of tokens.
        context: the most tokens that the model was made for.
        eps: of the norms.
        rotary: the positions.
        activation: the op of the gate, ``"silu"`` or ``"relu_squared"``.
        window: how many tokens a token sees, itself among them; None for all before it.
        interleaved: whether the rows of queries and keys stand in pairs, as llama's do in GGUF.
        int8_inputs: whether the matrices of few bits were trained with inputs of 8 bits for each token.
    """

    family: str
    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    eps: float
    rotary: Rotary
    activation: str = "silu"
    window: int | None = None
    interleaved: bool = False
    int8_inputs: bool = False

    @property
    def has_head_norms(self) -> bool:
        """Whether each head of queries and keys is normalised."""
        return self.family == "qwen3"

    @property
    def has_sub_norms(self) -> bool:
        """Whether there is a norm before the last matrix of each branch."""
        return self.family == "bitnet"

    def __str__(self) -> str:
        kv = f" ({self.kv_heads} of keys and values)" if self.kv_heads != self.heads else ""
        return (
            f"{self.family}: {self.layers} blocks of {self.width} features, {self.heads} heads of {self.head_size}{kv}, "
            f"{self.hidden} hidden features ({self.activation.replace('_', ' ')} gate), {self.vocabulary:,} tokens"
        )


@dataclass(frozen=True)
class Fields:
    """Values by name, each checked when it is read.

    Args:
        values: the metadata of a GGUF file, or the JSON of a configuration.
        where: the file, for messages.
        prefix: what stands before each name in `values`.
    """

    values: Mapping[str, Any]
    where: str
    prefix: str = ""

    def fail(self, message: str) -> ForeignModelError:
        return ForeignModelError(f"[{self.where}] {message}")

    def get(self, name: str) -> Any:
        return self.values.get(self.prefix + name)

    def whole(self, name: str, default: int | None = None, least: int = 1, most: int = MAX_SIZE) -> int:
        """An integer; a list of equal ones counts as one. Without a default it is needed."""
        value = self.get(name)
        if isinstance(value, (list, np.ndarray)) and len(value) and all(v == value[0] for v in value):
            value = value[0].item() if isinstance(value, np.ndarray) else value[0]
        if value is None and default is not None:
            return default
        if type(value) is not int or not least <= value <= most:
            raise self.fail(f"{self.prefix}{name}={excerpt(value)}: needs an integer from {least} to {most}")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not 0 < value < 1e30 or not math.isfinite(value):
            raise self.fail(f"{self.prefix}{name}={excerpt(value)}: needs a number above 0")
        return float(value)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.fail(f"{self.prefix}{name}={excerpt(value)}: needs a text")
        return value


def refuse_architecture(where: str, name: str, known: tuple[str, ...]) -> ForeignModelError:
    """The error for an architecture that onebit does not run: it says what is missing."""
    plain = name.lower()
    reason = next((reason for part, reason in LACKING.items() if part in plain), None)
    lacks = f"onebit lacks {reason} for it" if reason else "onebit does not know it"
    return ForeignModelError(f"[{where}] its architecture is {excerpt(name)}: {lacks}; it runs {', '.join(known)}")


def check(found: Architecture, where: str) -> Architecture:
    """Check that the sizes fit each other; returns the architecture."""

    def fail(message: str) -> ForeignModelError:
        return ForeignModelError(f"[{where}] {message}: the file is damaged")

    if found.heads % found.kv_heads:
        raise fail(f"{found.kv_heads} heads of keys do not divide {found.heads} heads of queries")
    if found.head_size % 2 or found.rotary.rotated % 2 or not 0 < found.rotary.rotated <= found.head_size:
        raise fail(f"{found.rotary.rotated} features turn of heads of {found.head_size}: needs even numbers")
    if not found.rotary.base > 1:
        raise fail(f"the base of the rotary positions is {found.rotary.base:g}: needs a number above 1")
    return found
