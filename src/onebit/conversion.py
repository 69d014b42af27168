"""Turn the layers of any PyTorch model binary, in place; the table of what became of each. The way back is restoration.py."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onebit.errors import OnebitError
from onebit.nn import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose2d,
    BinaryEmbedding,
    BinaryLinear,
    BinaryMultiheadAttention,
    BinaryTransposedLinear,
)
from onebit.nn.bits import set_up
from onebit.nn.conv import check_groups, check_transposed
from onebit.nn.embedding import scheme_of_tokens
from onebit.nn.multihead import check_attention_scheme
from onebit.schemes import BinaryNormalized, Scheme
from onebit.tables import lay_out

Where = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    Args:
        name: as `model.named_modules()` gives it.
        kind: the type it had.
        converted: whether it has another form now.
        reason: why not; of a converted one, what there is to know about it.
        parameters: that are its own, shared ones included.
    """

    name: str
    kind: str
    converted: bool
    reason: str
    parameters: int


@dataclass(frozen=True)
class ConversionReport:
    """What became of every layer with parameters, in the model's order. Iterating gives `LayerReport`s; `str` a table of them.

    Args:
        title: the line above the table.
        layers: one for each.
    """

    title: str
    layers: tuple[LayerReport, ...]

    @property
    def converted(self) -> tuple[str, ...]:
        """The names of the converted layers."""
        return tuple(layer.name for layer in self.layers if layer.converted)

    def __iter__(self) -> Iterator[LayerReport]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        """Layers that differ in the numbers in their names only share a line."""
        groups: dict[tuple[str, ...], list[LayerReport]] = defaultdict(list)
        for layer in self.layers:
            state = "yes" if layer.converted else "no"
            groups[re.sub(r"\d+", "*", layer.name), layer.kind, state, re.sub(r"\d+", "*", layer.reason)].append(layer)
        rows = [("layer", "kind", "count", "parameters", "converted", "why")]
        for (name, kind, state, _), layers in groups.items():
            one = layers[0]
            total = f"{sum(layer.parameters for layer in layers):,}"
            shown = one.name if len(layers) == 1 else name
            rows.append((shown or "(the model)", kind, str(len(layers)), total, state, one.reason))
        return f"{self.title}\n{lay_out(rows, right=(2, 3))}"


def _linear_sizes(layer: Any) -> tuple[int, int]:
    return layer.in_features, layer.out_features


def _conv_sizes(layer: Any) -> tuple[int, int]:
    return layer.in_channels, layer.out_channels


def _check_conv(layer: Any, scheme: Scheme) -> Scheme:
    check_groups(type(layer).__name__, layer.in_channels, layer.out_channels, layer.groups, scheme)
    if layer.padding_mode != "zeros" and scheme.input_scale:
        raise ValueError(
            f"padding_mode={layer.padding_mode!r}: {type(scheme).__name__}'s scale of the inputs is defined for 'zeros'"
        )
    return scheme


def _check_transposed(layer: Any, scheme: Scheme) -> Scheme:
    check_transposed(layer.groups, scheme)
    return scheme


def _check_embedding(layer: Any, scheme: Scheme) -> Scheme:
    if layer.max_norm is not None:
        raise ValueError("max_norm rescales the latents in each pass, which changes no bit: make it without")
    if layer.sparse:
        raise ValueError("sparse=True: bits depend on all latents, whose gradient is dense")
    return scheme_of_tokens(scheme)


class Form(NamedTuple):
    """How a layer of one kind turns binary while its parameters stay where they are.

    Args:
        binary: the type that it gets.
        sizes: its inputs and outputs.
        check: the scheme for it; raises ValueError where there is none.
        axis: of the outputs in its weight.
    """

    binary: type[nn.Module]
    sizes: Callable[[Any], tuple[int, int]]
    check: Callable[[Any, Scheme], Scheme]
    axis: int = 0


FORMS: dict[type[nn.Module], Form] = {
    nn.Linear: Form(BinaryLinear, _linear_sizes, lambda layer, scheme: scheme),
    nn.Conv1d: Form(BinaryConv1d, _conv_sizes, _check_conv),
    nn.Conv2d: Form(BinaryConv2d, _conv_sizes, _check_conv),
    nn.Conv3d: Form(BinaryConv3d, _conv_sizes, _check_conv),
    nn.ConvTranspose2d: Form(BinaryConvTranspose2d, _conv_sizes, _check_transposed, axis=1),
    nn.Embedding: Form(
        BinaryEmbedding, lambda layer: (layer.num_embeddings, layer.embedding_dim), _check_embedding, axis=1
    ),
}
# GPT-2's dense layer, which Hugging Face calls Conv1D.
TRANSPOSED = Form(BinaryTransposedLinear, lambda layer: tuple(layer.weight.shape), lambda layer, scheme: scheme, axis=1)
BINARY: tuple[type[nn.Module], ...] = (
    *(form.binary for form in FORMS.values()),
    BinaryTransposedLinear,
    BinaryMultiheadAttention,
)


def convert(
    model: nn.Module,
    scheme: Scheme | None = None,
    where: Where | None = None,
    keep: str | Sequence[str] = ("first", "last"),
) -> ConversionReport:
    r"""Turn the layers of a model binary, in place: their weights become latents, bits of which compute.

    .. math:: y = W x + b \quad \to \quad y = \operatorname{scheme}(W_b, x, b)

    Dense layers, convolutions, embeddings, `nn.MultiheadAttention` and GPT-2's Conv1D are converted. The modules and their parameters stay the same
    objects, so that hooks, devices, precisions, ties and `requires_grad` stay; of attention the three input projections become parameters of
    their own. Make the optimiser afterwards.

    Args:
        model: any; it is changed.
        scheme: of `onebit.schemes`; default the paper's, `BinaryNormalized()`.
        where: says of a layer, given its name and itself, whether to convert it; default all.
        keep: what stays as it is: ``"first"`` and ``"last"`` of the layers in the order of `named_modules`, which is commonly that of execution;
            and names or patterns of names such as ``"*.head"``, of layers or of what holds them.

    Returns:
        The report: each layer with parameters, and why it was not converted. Layers of a kind or with options that have no binary form stay float.

    Raises:
        ValueError: a pattern in `keep` matches nothing, or `scheme` is none.
        OnebitError: a latent would be NaN or infinite; nothing is converted then.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> onebit.convert(model, onebit.schemes.BinaryConnect()).converted
        ('2',)
    """
    chosen = BinaryNormalized() if scheme is None else scheme
    if not isinstance(chosen, Scheme):
        raise ValueError(f"[convert] scheme={chosen!r}: use one of onebit.schemes, such as BinaryNet()")
    found = _find(model)
    _keep(found, (keep,) if isinstance(keep, str) else keep)
    for layer in found:
        if not layer.reason and where is not None and not where(layer.name, layer.module):
            layer.reason = "where says no"
        layer.reason = layer.reason or _why_not(layer, chosen)
    _keep_ties(found)
    for layer in found:
        if not layer.reason:
            _check_latents(layer)
    kinds = [type(layer.module).__name__ for layer in found]
    for layer in found:
        if not layer.reason:
            _turn_binary(layer, chosen)
    leave_fast_paths(model)
    return _report(model, chosen, found, kinds)


@dataclass
class _Found:
    """A module with parameters of its own, and why it is not converted, if so."""

    name: str
    module: nn.Module
    kind: type[nn.Module] | None
    parameters: list[tuple[str, Tensor]]
    reason: str = ""


def kind_of(module: nn.Module) -> type[nn.Module] | None:
    """Which of the kinds that have a binary form a module is of, subclasses included; None where it is none."""
    for kind in (*FORMS, nn.MultiheadAttention):
        if isinstance(module, kind):
            return kind
    return type(module) if is_transposed_linear(module) else None


def is_transposed_linear(module: nn.Module) -> bool:
    """Whether a module is Hugging Face's Conv1D, a dense layer with its weight as (in, out); told by its name and its shapes."""
    weight, outputs = getattr(module, "weight", None), getattr(module, "nf", None)
    return (
        type(module).__name__ == "Conv1D"
        and isinstance(weight, Tensor)
        and weight.dim() == 2
        and weight.shape[1] == outputs
    )


def _find(model: nn.Module) -> list[_Found]:
    """Every layer of a known kind, and every other module with parameters of its own; what is inside attention belongs to it."""
    found: list[_Found] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        kind = None if isinstance(module, BINARY) else kind_of(module)
        whole = kind is nn.MultiheadAttention or isinstance(module, BinaryMultiheadAttention) or _is_computed(module)
        if whole:
            inside.update(module.modules())
        parameters = list(module.named_parameters(recurse=whole))
        if kind is not None or parameters:
            found.append(_Found(name, module, kind, parameters))
    return found


def _keep(found: list[_Found], keep: Sequence[str]) -> None:
    layers = [layer for layer in found if layer.kind is not None or isinstance(layer.module, BINARY)]
    for wish in keep:
        if wish in ("first", "last"):
            for layer in layers[:1] if wish == "first" else layers[-1:]:
                layer.reason = f"kept: the {wish} layer"
            continue
        matching = [layer for layer in layers if fnmatchcase(layer.name, wish) or fnmatchcase(layer.name, f"{wish}.*")]
        if not matching:
            names = ", ".join(repr(layer.name) for layer in layers[:4])
            raise ValueError(f"[convert] keep={wish!r} matches no layer: use 'first', 'last' or names such as {names}")
        for layer in matching:
            layer.reason = f"kept: {wish!r}"


def _why_not(found: _Found, scheme: Scheme) -> str:
    """Why a layer has no binary form; empty where it has one."""
    module, kind = found.module, found.kind
    if isinstance(module, BINARY):
        return "is binary already"
    if kind is None:
        held = ", ".join(name for name, _ in found.parameters)
        return (
            "a float vector or two for each channel" if _is_small(module) else f"no binary form is known; holds {held}"
        )
    name = kind.__name__
    if type(module).forward is not kind.forward or getattr(type(module), "_conv_forward", None) is not getattr(
        kind, "_conv_forward", None
    ):
        return f"a {name} with a forward of its own"
    if _is_computed(module) or (kind is nn.MultiheadAttention and any(map(_is_computed, module.children()))):
        return "its weight is computed from others (a parametrisation, weight_norm or pruning): remove that first"
    for _, parameter in found.parameters:
        if isinstance(parameter, nn.UninitializedParameter):
            return "its sizes are not known yet: run the model once first"
        if not parameter.is_floating_point():
            return f"weights of type {parameter.dtype}"
    try:
        if kind is nn.MultiheadAttention:
            _check_attention(module, scheme)
        else:
            form_of(kind).check(module, scheme)
    except ValueError as error:
        return re.sub(r"^\[\w+\] ", "", str(error))
    return ""


def _is_computed(module: nn.Module) -> bool:
    """Whether a weight is no parameter itself but made of some: by a parametrisation, or by a hook as older weight_norm and pruning do."""
    return parametrize.is_parametrized(module) or (
        isinstance(getattr(module, "weight", None), Tensor) and "weight" not in module._parameters
    )


def form_of(kind: type[nn.Module]) -> Form:
    """The binary form of a kind of layer that keeps its parameters."""
    return FORMS.get(kind, TRANSPOSED)


def _is_small(module: nn.Module) -> bool:
    return all(parameter.dim() <= 1 for parameter in module.parameters(recurse=False))


def _check_attention(module: Any, scheme: Scheme) -> None:
    if module.bias_k is not None:
        raise ValueError("add_bias_kv=True: a key and a value of floats that no layer makes")
    if module.add_zero_attn:
        raise ValueError("add_zero_attn=True: a key and a value that no layer makes")
    check_attention_scheme(scheme)


def _keep_ties(found: list[_Found]) -> None:
    """A weight that two layers share computes as bits in both or in neither."""
    owners: dict[int, list[_Found]] = defaultdict(list)
    for layer in found:
        for name, parameter in layer.parameters:
            if name != "bias":
                owners[id(parameter)].append(layer)
    changed = True
    while changed:
        changed = False
        for sharing in owners.values():
            staying = next((layer for layer in sharing if layer.reason), None)
            apart = next((layer for layer in sharing if layer.kind is nn.MultiheadAttention), None)
            for layer in sharing if len(sharing) > 1 else ():
                if not layer.reason and (staying is not None or apart is not None):
                    other = staying or next(o for o in sharing if o is not layer)
                    layer.reason = f"its weight is also that of {other.name}" + (", which stays" if staying else "")
                    changed = True


def _check_latents(found: _Found) -> None:
    for name, parameter in found.parameters:
        # A sum is quicker than a look at each element; where it is not finite it may still have overflowed.
        finite = parameter.is_meta or bool(torch.isfinite(parameter.detach().sum()))
        if not finite and not bool(torch.isfinite(parameter.detach()).all()):
            raise OnebitError(
                f"[convert] {found.name}.{name} holds NaN or infinity, which has no bits: train again, or load an earlier checkpoint"
            )


def _turn_binary(found: _Found, scheme: Scheme) -> None:
    if found.kind is nn.MultiheadAttention:
        _turn_attention(found.module, scheme)
    else:
        assert found.kind is not None
        turn_layer(found.module, form_of(found.kind), scheme)


def turn_layer(layer: Any, form: Form, scheme: Scheme) -> None:
    """Give a layer its binary type; its parameters stay, and what it was is remembered in `converted_from`."""
    layer.converted_from = type(layer)
    layer.__class__ = form.binary
    layer.latent_spread = 1.0
    if not hasattr(layer, "bias"):
        layer.register_parameter("bias", None)
    inputs, outputs = form.sizes(layer)
    set_up(layer, form.check(layer, scheme), inputs, outputs)
    for part in (layer.threshold, layer.gain):
        if part is not None:
            part.requires_grad_(layer.weight.requires_grad)
    layer.train(layer.training)


def _turn_attention(module: Any, scheme: Scheme) -> None:
    embed, bias = module.embed_dim, module.in_proj_bias is not None
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    weights = module.in_proj_weight.chunk(3) if module._qkv_same_embed_dim else [getattr(module, n) for n in names]
    biases = module.in_proj_bias.chunk(3) if bias else [None] * 3
    with torch.device("meta"):  # its own latents are replaced at once
        made = BinaryMultiheadAttention(
            embed, module.num_heads, module.dropout, bias, module.kdim, module.vdim, module.batch_first, scheme
        )
    for name, weight, part in zip(("query", "key", "value"), weights, biases, strict=True):
        projection = nn.Linear(weight.shape[1], embed, bias, device="meta")
        projection.weight = own_parameter(weight)
        if part is not None:
            projection.bias = own_parameter(part)
        turn_layer(projection, FORMS[nn.Linear], scheme)
        setattr(made, name, projection)
    out = module.out_proj
    turn_layer(out, FORMS[nn.Linear], scheme)
    made.out_proj = out
    made.train(module.training)
    become(module, made)


def own_parameter(values: Tensor) -> nn.Parameter:
    """A parameter of its own with the values of a part of another, frozen where that is."""
    return nn.Parameter(values.detach().clone(), requires_grad=values.requires_grad)


# What every module has beside its parameters, buffers and parts: its hooks, and whether it is training.
_STAYING = frozenset(nn.Module().__dict__) - {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}


def become(module: nn.Module, made: nn.Module) -> None:
    """Turn a module into what another is, in place; its hooks stay."""
    before = {key: value for key, value in module.__dict__.items() if key in _STAYING}
    module.__class__ = type(made)  # type: ignore[assignment]
    module.__dict__ = {**made.__dict__, **before}


def leave_fast_paths(model: nn.Module) -> None:
    """Keep PyTorch's encoder layers from computing with weights that they read past their binary layers; or let them again."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            name = "activation_relu_or_gelu"
        elif isinstance(module, nn.TransformerEncoder):
            name = "use_nested_tensor"
        else:
            continue
        state: Any = module.__dict__
        if any(isinstance(part, BINARY) for part in module.modules()):
            state.setdefault(f"_{name}_before", state[name])
            state[name] = False
        elif f"_{name}_before" in state:
            state[name] = state.pop(f"_{name}_before")


def _count(parameter: Tensor) -> int:
    return 0 if isinstance(parameter, nn.UninitializedParameter) else parameter.numel()


def _report(model: nn.Module, scheme: Scheme, found: list[_Found], kinds: list[str]) -> ConversionReport:
    rows = []
    for layer, kind in zip(found, kinds, strict=True):
        note = layer.reason
        padding = getattr(layer.module, "padding_idx", None)
        if not note and padding is not None:
            note = f"row {padding}, the padding, is bits too: no longer zeros"
        rows.append(LayerReport(layer.name, kind, not layer.reason, note, sum(_count(p) for _, p in layer.parameters)))
    everything = {id(p): _count(p) for layer in found for _, p in layer.parameters}
    converted = {id(p): _count(p) for layer in found if not layer.reason for _, p in layer.parameters}
    count = sum(row.converted for row in rows)
    title = (
        f"{type(model).__name__} with {scheme}: {count} of {len(rows)} layers converted, "
        f"{sum(converted.values()):,} of {sum(everything.values()):,} parameters"
    )
    return ConversionReport(title, tuple(rows))
