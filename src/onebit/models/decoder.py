"""The paper's language decoder (algorithm 8) and its float twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onebit.models.forms import check_scheme, form_named, usual_form
from onebit.nn import BinaryEmbedding, BinaryLinear, KeyValueCache, Normalize, TokenPositionEmbedding, TransformerBlock
from onebit.nn.arguments import chosen_scheme
from onebit.nn.transformer import Mlp, Positions, check_options
from onebit.schemes import Scheme

Norm = Literal["layer", "rms"]
# Of layer normalisations in PyTorch.
EPS = 1e-5

# The paper's two sizes (with BERT's 30,522 WordPiece tokens), two sizes that two cores can train, and that of the package's decoder.
NAMED_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"vocabulary": 1024, "context": 128, "blocks": 4, "features": 128, "heads": 4, "head": (256, 256)},
    "mini": {"vocabulary": 4096, "context": 256, "blocks": 6, "features": 256, "heads": 4, "head": (256, 512)},
    "books": {"vocabulary": 4096, "context": 256, "blocks": 6, "features": 640, "heads": 10, "head": (1024,)},
    "small": {"vocabulary": 30522, "context": 256, "blocks": 12, "features": 768, "heads": 16, "head": (4096, 2048)},
    "large": {"vocabulary": 30522, "context": 256, "blocks": 16, "features": 1024, "heads": 16, "head": (8192, 4096)},
}
SIZE_KEYS = ("vocabulary", "context", "blocks", "features", "heads", "head")


class LanguageDecoder(nn.Module):
    """Embedding, transformer blocks and dense layers. `language_decoder` builds it.

    Training sets `checkpoint_activations` to keep only each block's input for the backward pass and to compute the rest again. This takes a third
    more work, and the memory of only one block.
    """

    def __init__(
        self,
        embedding: TokenPositionEmbedding,
        project: nn.Module,
        norm: nn.Module,
        blocks: nn.ModuleList,
        head: nn.Sequential,
        logit_scale: float | None = None,
        head_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.project = project
        self.norm = norm
        self.blocks = blocks
        self.head_norm = head_norm
        self.head = head
        self.logit_scale = logit_scale
        self.checkpoint_activations = False

    @property
    def context(self) -> int:
        """The number of tokens that it can look at."""
        return self.embedding.context

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn integers (batch, time) into the logits of each next token (batch, time, vocabulary)."""
        x = self.norm(self.project(self.embedding(tokens)))
        again = self.checkpoint_activations and self.training
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self._logits(x)

    def caches(self) -> list[KeyValueCache]:
        """An empty KV cache per block, for `extend`."""
        return [KeyValueCache(self.context) for _ in self.blocks]

    def extend(self, tokens: Tensor, caches: list[KeyValueCache]) -> Tensor:
        """The logits (batch, vocabulary) after the last of new tokens (batch, time), given the KV caches of the tokens before them."""
        x = self.norm(self.project(self.embedding(tokens, caches[0].length if caches else 0)))
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache)
        return self._logits(x[:, -1])

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x if self.head_norm is None else self.head_norm(x))
        return logits if self.logit_scale is None else logits * self.logit_scale


def language_decoder(
    size: str | Mapping[str, Any] = "small",
    binary: bool = True,
    *,
    form: str | None = None,
    residual_scale: float | None = None,
    logit_scale: float | None = None,
    embedding_widening: int | None = None,
    head_widening: int = 1,
    embedding_spread: float = 1.0,
    pre_norm: bool | None = None,
    norm: Norm = "layer",
    positions: Positions = "learned",
    mlp: Mlp = "plain",
    kv_heads: int | None = None,
    activation: str | None = None,
    hidden_widening: float = 2.0,
    sub_norm: bool = False,
    scheme: Scheme | None = None,
    **old: Any,
) -> LanguageDecoder:
    """A language decoder: token and position embedding, causal transformer blocks, dense layers to the logits.

    Args:
        size: ``"small"`` or ``"large"`` (the paper's: exactly 154,406,714 and 332,855,098 parameters), ``"tiny"``, ``"mini"``, ``"books"``, or a
            mapping with any of `vocabulary`, `context` (tokens it can look at), `blocks`, `features`, `heads`, `head` (features of the dense layers
            before the last). Missing keys are those of "tiny".
        binary: False gives the float twin: the same shape, dense layers without normalisation, layer normalisations with learned scale and shift
            after the embedding and in the blocks.
        form: ``"best"`` (normalised before each branch, with learned norms and a float scale and bias of each output), ``"all-bits"`` (as
            "best", with constants instead of these floats: every parameter a bit) or ``"paper"`` (its letter: every layer normalised, every
            parameter a bit). The form decides whatever of the next options and of `pre_norm` and `scheme` is None. None for "best", or for
            "paper" with a scheme that normalises each layer.
        residual_scale: a factor of each branch of a block before it is added; see `TransformerBlock`.
        logit_scale: a constant that multiplies the logits. Normalised logits have unit deviation, which limits confidence. Binary only.
        embedding_widening: the embedding has this multiple of the features, and a binary dense layer projects back; 1 for no projection.
        head_widening: a factor of the widths of the dense layers before the last.
        embedding_spread: the spread of the initial latent weights of embeddings, as a multiple of Glorot's. For dense layers it is the scheme's
            `latent_spread`. Binary only.
        pre_norm: normalise before each branch instead of after each sum, and once before the head; see `TransformerBlock`.
        norm: ``"layer"``, or ``"rms"``: normalisations between the layers divide by the root mean square and do not subtract the mean.
        positions: ``"learned"``, a table of them, or ``"rotary"``: queries and keys are turned; see `RotaryPositions`.
        mlp, kv_heads, activation, sub_norm: of each block; see `TransformerBlock`.
        hidden_widening: the hidden layer of a block has this multiple of the features, rounded.
        scheme: the scheme of the binary layers, embeddings included. By default `BinaryWeightNetwork()`, `PureBits()` or `BinaryNormalized()`,
            by the form.

    Shape:
        integers (batch, time), time at most `context`, to logits (batch, time, vocabulary).

    Raises:
        ValueError: a size, the form or an option is unknown, the form cannot take the scheme, a size is not positive, `heads` does not divide
            `features`, or `kv_heads` does not divide `heads`.

    Example:
        >>> sum(p.numel() for p in language_decoder("small", form="paper").parameters())
        154406714

    Source: arXiv 2509.07025, algorithms 4 to 6 and 8, table 4. The options are off in the paper. docs/accuracy.md compares the forms.
    """
    chosen = chosen_scheme("language_decoder", scheme, old) if scheme is not None or old else None
    if form is None:
        form = "paper" if old else usual_form(chosen)
    sizes, made = decoder_sizes(size), form_named("language_decoder", form)
    chosen = made.scheme if chosen is None else chosen
    check_scheme("language_decoder", form, chosen)
    residual_scale = made.residual_scale if residual_scale is None else residual_scale
    logit_scale = made.logit_scale if logit_scale is None else logit_scale
    embedding_widening = made.embedding_widening if embedding_widening is None else embedding_widening
    pre_norm = made.pre_norm if pre_norm is None else pre_norm
    for name, value in (("embedding_widening", embedding_widening), ("head_widening", head_widening)):
        if value < 1:
            raise ValueError(f"[language_decoder] {name}={value}: use 1 or more")
    if not hidden_widening > 0 or round(hidden_widening * sizes["features"]) < 1:
        raise ValueError(
            f"[language_decoder] hidden_widening={hidden_widening}: use a number that gives a feature or more, such as 2"
        )
    check_options("language_decoder", norm=norm, positions=positions, mlp=mlp)
    of_tables = made.tables if made.tables is not None and isinstance(chosen, type(made.scheme)) else chosen
    features, vocabulary = sizes["features"], sizes["vocabulary"]
    head_sizes = [head_widening * width for width in sizes["head"]]

    def linear(inputs: int, outputs: int) -> nn.Module:
        if binary:
            return BinaryLinear(inputs, outputs, made.bias, scheme=chosen)
        layer = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def table(rows: int, width: int) -> nn.Module:
        if binary:
            spread = replace(of_tables, latent_spread=embedding_spread)
            return BinaryEmbedding(rows, width, made.table_bias, scheme=spread)
        layer = nn.Embedding(rows, width)
        # Small, so that the layers after it matter from the first step on; as in GPT-2.
        nn.init.normal_(layer.weight, std=0.02)
        return layer

    norms = _norms(norm, learned=made.learned_norms or not binary)
    embedded = embedding_widening * features
    head: list[nn.Module] = []
    width = features
    for outputs in head_sizes:
        head += [linear(width, outputs), nn.GELU()]
        width = outputs

    def block() -> TransformerBlock:
        return TransformerBlock(
            features,
            sizes["heads"],
            round(hidden_widening * features),
            linear,
            norms,
            residual_scale,
            pre_norm,
            positions=positions,
            kv_heads=kv_heads,
            mlp=mlp,
            activation=activation,
            sub_norm=sub_norm,
        )

    return LanguageDecoder(
        embedding=TokenPositionEmbedding(vocabulary, sizes["context"], embedded, table, positions == "learned"),
        project=linear(embedded, features) if embedding_widening > 1 else nn.Identity(),
        norm=norms(features),
        blocks=nn.ModuleList(block() for _ in range(sizes["blocks"])),
        head=nn.Sequential(*head, linear(width, vocabulary)),
        logit_scale=logit_scale if binary else None,
        head_norm=norms(features) if pre_norm else None,
    )


def _norms(norm: Norm, learned: bool) -> Callable[[int], nn.Module]:
    """What makes a normalisation of a number of features, with or without a learned scale (and shift, of a layer normalisation)."""
    if norm == "rms":
        return lambda features: nn.RMSNorm(features, EPS, elementwise_affine=learned)
    return nn.LayerNorm if learned else lambda features: Normalize("channel", features)


def decoder_sizes(size: str | Mapping[str, Any]) -> dict[str, Any]:
    """All sizes of a decoder, from a name or from some sizes. Raises ValueError like `language_decoder`."""
    if isinstance(size, str):
        if size not in NAMED_SIZES:
            raise ValueError(f"[language_decoder] size={size!r}: use {', '.join(NAMED_SIZES)} or a mapping of sizes")
        return dict(NAMED_SIZES[size])
    unknown = [key for key in size if key not in SIZE_KEYS]
    if unknown:
        raise ValueError(f"[language_decoder] size {unknown[0]!r} is unknown: use {', '.join(SIZE_KEYS)}")
    sizes = {**NAMED_SIZES["tiny"], **size}
    for key, value in sizes.items():
        if any(type(n) is not int or n < 1 for n in (value if key == "head" else (value,))):
            raise ValueError(f"[language_decoder] {key}={value!r}: use integers from 1 up")
    if sizes["features"] % sizes["heads"]:
        raise ValueError(
            f"[language_decoder] heads={sizes['heads']} does not divide features={sizes['features']}: use a divisor"
        )
    return sizes
