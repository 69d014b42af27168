"""A foreign language model as a PyTorch network, with float weights or with few bits."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from onebit.distilling.layers import GroupScaledLinear, Levelled
from onebit.errors import ForeignModelError
from onebit.importing.architecture import Architecture
from onebit.importing.matrices import Masters, Matrix
from onebit.importing.parts import Parts
from onebit.models.decoder import LanguageDecoder
from onebit.nn import BinaryLinear, TokenPositionEmbedding, TransformerBlock
from onebit.schemes import BitNet158

# Of a block: where our networks have a part, and its name in foreign models; see `onebit.importing.parts`.
MATRICES = {
    "attention.query": "attention.q",
    "attention.key": "attention.k",
    "attention.value": "attention.v",
    "attention.out": "attention.output",
    "gate": "mlp.gate",
    "expand": "mlp.up",
    "contract": "mlp.down",
}
NORMS = {
    "attention_norm": "attention.norm",
    "attention.query_norm": "attention.q_norm",
    "attention.key_norm": "attention.k_norm",
    "attention.out_norm": "attention.sub_norm",
    "norm": "mlp.norm",
    "hidden_norm": "mlp.sub_norm",
}
# The last layer of each branch, where its sub norm is, and a norm that has the network's eps.
SUB_NORMS = {
    "attention.out": ("attention.out_norm", "attention_norm"),
    "contract": ("hidden_norm", "norm"),
}
# One scale for a matrix, and inputs of 8 bits for each token. Such networks have norms of their own.
BITNET = BitNet158(input_normalize=False)
GROUPS = (128, 64, 32)


def float_network(parts: Parts, context: int, tied: bool) -> LanguageDecoder:
    """The network with the weights of the source, in evaluation mode.

    Args:
        parts: the tensors of the foreign model.
        context: the most tokens of a text.
        tied: whether the head is the embedding's table.

    Raises:
        ForeignModelError: a tensor is missing or of another shape.
    """
    sizes = parts.sizes

    def norm(features: int) -> nn.Module:
        return nn.RMSNorm(features, sizes.eps)

    def linear(inputs: int, outputs: int) -> nn.Module:
        # Without memory of their own until they get their weights.
        return nn.Linear(inputs, outputs, bias=False, device="meta")

    turning = {"base": sizes.rotary.base, "rotated": sizes.rotary.rotated, "scaling": sizes.rotary.scaling}
    blocks = nn.ModuleList(
        TransformerBlock(
            sizes.width,
            sizes.heads,
            sizes.hidden,
            linear,
            norm,
            pre_norm=True,
            kv_heads=sizes.kv_heads,
            mlp="gated",
            activation=sizes.activation,
            sub_norm=sizes.has_sub_norms,
            head_size=sizes.head_size,
            rotary=turning,
            head_norm=norm if sizes.has_head_norms else None,
        )
        for _ in range(sizes.layers)
    )
    table = nn.Embedding(1, sizes.width, device="meta")
    embedding = TokenPositionEmbedding(sizes.vocabulary, context, sizes.width, lambda rows, width: table, False)
    head = linear(sizes.width, sizes.vocabulary)
    network = LanguageDecoder(
        embedding, nn.Identity(), nn.Identity(), blocks, nn.Sequential(head), head_norm=norm(sizes.width)
    )
    _load(network, parts, tied)
    parts.check_all_used()
    return network.eval().requires_grad_(False)


def _load(network: LanguageDecoder, parts: Parts, tied: bool) -> None:
    sizes = parts.sizes
    table = network.embedding.tokens
    assert isinstance(table, nn.Embedding)
    table.num_embeddings = sizes.vocabulary
    table.weight = _weights(parts.matrix("embedding", sizes.vocabulary, sizes.width))
    head = network.head[0]
    head.weight = table.weight if tied else _weights(parts.matrix("head", sizes.vocabulary, sizes.width))
    _set_norm(network.get_submodule("head_norm"), parts, "norm")
    for index, block in enumerate(network.blocks):
        for name, theirs in MATRICES.items():
            full = f"blocks.{index}.{theirs}"
            layer = block.get_submodule(name)
            layer.weight = _weights(parts.matrix(full, layer.out_features, layer.in_features))  # type: ignore[assignment, arg-type]
            if parts.has(full, "bias"):
                bias = parts.vector(full, layer.out_features, "bias")  # type: ignore[arg-type]
                layer.bias = nn.Parameter(torch.from_numpy(bias.copy()), requires_grad=False)
        for name, theirs in NORMS.items():
            owner, _, own = name.rpartition(".")
            norm = getattr(block.get_submodule(owner), own)
            if norm is not None:
                _set_norm(norm, parts, f"blocks.{index}.{theirs}")


def _set_norm(norm: nn.Module, parts: Parts, name: str) -> None:
    assert isinstance(norm, nn.RMSNorm)
    norm.weight = nn.Parameter(torch.from_numpy(parts.vector(name, norm.normalized_shape[0]).copy()))


def _weights(matrix: Matrix) -> nn.Parameter:
    """All weights of a matrix; of one that is rounded in each forward pass those before that."""
    whole = np.empty((matrix.rows, matrix.columns), np.float32)
    pieces = matrix.stored.pieces() if isinstance(matrix, Masters) else matrix.pieces()
    for first, decoded in pieces:
        values = decoded if isinstance(decoded, np.ndarray) else decoded.floats()
        whole[first : first + len(values)] = values
    if not np.isfinite(whole).all():
        raise matrix.fail("holds numbers that are not finite: the file is damaged")
    return nn.Parameter(torch.from_numpy(whole), requires_grad=False)


def group_for(sizes: Architecture, group: int | None, where: str) -> int:
    """The number of inputs that share a scale: as given, or the largest that divides all rows.

    Raises:
        ForeignModelError: it does not divide the rows, or nothing does.
    """
    rows = (sizes.width, sizes.hidden, sizes.heads * sizes.head_size)
    fitting = [g for g in GROUPS if all(n % g == 0 for n in rows)]
    if group is not None and group in fitting:
        return group
    if group is None and fitting:
        return fitting[0]
    allowed = ", ".join(map(str, fitting)) or "a model with rows that 32 divides"
    raise ForeignModelError(f"[{where}] group={group}: its rows have {', '.join(map(str, rows))} inputs; use {allowed}")


def rounded_network(
    network: LanguageDecoder, levels: Levelled | None, group: int, sub_norm: bool = False
) -> LanguageDecoder:
    """A network to train, which starts from the weights of a float one and shares its embedding and head, which stay as they are.

    Args:
        network: of floats; it stays as it is.
        levels: of the weights in blocks; None for ternary weights with one scale for a matrix and inputs of 8 bits.
        group: the number of inputs that share a scale.
        sub_norm: whether to add a norm before the last layer of each branch, where there is none.
    """
    shared: list[nn.Module] = [network.embedding, network.head]
    made = copy.deepcopy(network, {id(module): module for module in shared})
    for block in made.blocks:
        for name in MATRICES:
            owner, _, own = name.rpartition(".")
            layer = block.get_submodule(name)
            setattr(block.get_submodule(owner), own, _rounded(layer, levels, group))
        for name, (norm, eps) in SUB_NORMS.items() if sub_norm else ():
            owner, _, own = norm.rpartition(".")
            features = block.get_submodule(name).weight.shape[1]  # type: ignore[union-attr, index]
            setattr(block.get_submodule(owner), own, nn.RMSNorm(features, block.get_submodule(eps).eps))  # type: ignore[arg-type]
    for parameter in (*made.blocks.parameters(), *made.get_submodule("head_norm").parameters()):
        parameter.requires_grad_(True)
    return made


def _rounded(layer: nn.Module, levels: Levelled | None, group: int) -> nn.Module:
    """Few bits for each weight. A bias stays a float for each output, and is trained too."""
    assert isinstance(layer, nn.Linear)
    if levels is not None:
        return GroupScaledLinear(layer.weight, group, levels, layer.bias)
    rounded = BinaryLinear(layer.in_features, layer.out_features, bias=layer.bias is not None, scheme=BITNET)
    rounded.weight.data = layer.weight.detach().clone()
    if layer.bias is not None:
        rounded.bias.data = layer.bias.detach().clone()
    return rounded
