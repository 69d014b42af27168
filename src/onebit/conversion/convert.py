"""Convert the layers of any PyTorch model to binary layers, in place. restore.py converts them back."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from onebit.conversion.composites import check_composite, turn_composite
from onebit.conversion.forms import BINARY, COMPOSITES, FORMS, fitting_scheme, form_of, is_transposed_linear, turn_layer
from onebit.conversion.report import ConversionReport, LayerReport
from onebit.errors import OnebitError, shown
from onebit.models.forms import form_named
from onebit.nn.binary import all_finite
from onebit.schemes import Bipolar, Scheme

Where = Callable[[str, nn.Module], bool]
# A model with such a layer reads sequences. Batch statistics would let a token see later ones.
_OF_SEQUENCES = (nn.Embedding, *COMPOSITES)


def convert(
    model: nn.Module,
    scheme: Scheme | None = None,
    where: Where | None = None,
    keep: str | Sequence[str] = ("first", "last"),
    *,
    form: str | None = None,
) -> ConversionReport:
    r"""Convert the layers of a model to binary layers, in place. Their weights become latent weights, and the forward pass uses their bits.

    .. math:: y = W x + b \quad \to \quad y = \operatorname{scheme}(W_b, x, b)

    Dense layers, convolutions, embeddings, `nn.MultiheadAttention`, `nn.LSTM`, `nn.GRU` and GPT-2's Conv1D are converted. The modules and their
    parameters stay the same objects, so that hooks, devices, precisions, ties and `requires_grad` are kept. But attention's three input projections
    become separate parameters, and a recurrence's two biases become one. Create the optimizer afterwards.

    Args:
        model: any model; it is changed.
        scheme: a scheme of `onebit.schemes`. The default is `Bipolar()`, which measured best here. Models with embeddings, attention or
            recurrences read sequences, and batch statistics do not suit those: their default is ``Bipolar(normalize="channel")``.
        where: a function of a layer's name and the layer that says whether to convert it. The default converts all.
        keep: the layers to leave as they are: ``"first"`` and ``"last"`` in the order of `named_modules`, which is usually the order of
            execution, and names or patterns such as ``"*.head"`` of layers or of the modules that contain them.
        form: for transformers, instead of a scheme: ``"best"`` (scaled signs, norms stay learned), ``"all-bits"`` (constant scales) or ``"paper"``
            (a normalisation after each layer). The last two also take the learned scale and shift out of the norms, so that every parameter
            that is not kept is a bit. The structure stays.

    Returns:
        A report of each layer with parameters, with the reason if it was not converted. A layer stays float if its kind or its options do not
        have a binary form.

    Raises:
        ValueError: `model` is not a module, a pattern in `keep` matches nothing or is not a text, `where` is not a function, `scheme` is not a
            scheme, the form is unknown, or both are given.
        OnebitError: a latent weight would be NaN or infinite. In this case nothing is converted.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> onebit.convert(model, onebit.schemes.BinaryConnect()).converted
        ('2',)
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"[convert] {type(model).__name__} is not a PyTorch model: give an nn.Module")
    if form is not None and scheme is not None:
        raise ValueError(
            f"[convert] form={shown(form)} and scheme={shown(scheme)}: give one of them, a form has its scheme"
        )
    made = None if form is None else form_named("convert", form)
    chosen = made.scheme if made is not None else _best_for(model) if scheme is None else scheme
    if not isinstance(chosen, Scheme):
        raise ValueError(f"[convert] scheme={shown(chosen)}: use one of onebit.schemes, such as BinaryNet(), or None")
    of_tables = chosen if made is None or made.tables is None else made.tables
    if where is not None and not callable(where):
        raise ValueError(f"[convert] where={shown(where)}: give a function of a layer's name and the layer, or None")
    wishes = (keep,) if isinstance(keep, str) else keep
    if not isinstance(wishes, Collection) or not all(isinstance(wish, str) for wish in wishes):
        raise ValueError(f"[convert] keep={shown(keep)}: use 'first', 'last' and names of layers, or () to keep none")
    found = _find(model)
    _keep(found, wishes)
    for layer in found:
        if not layer.reason and where is not None and not where(layer.name, layer.module):
            layer.reason = "`where` excludes it"
        layer.reason = layer.reason or _why_not(layer, of_tables if layer.kind is nn.Embedding else chosen)
    _keep_ties(found)
    checked: set[int] = set()
    for layer in found:
        if not layer.reason:
            _check_latents(layer, checked)
    kinds = [type(layer.module).__name__ for layer in found]
    for layer in found:
        if not layer.reason:
            _turn_binary(layer, of_tables if layer.kind is nn.Embedding else chosen)
    if made is not None and not made.learned_norms:
        _leave_plain_norms(found)
    leave_fast_paths(model)
    return _report(model, str(chosen) if form is None else f"form {form!r}", found, kinds)


def _best_for(model: nn.Module) -> Scheme:
    sequences = any(kind_of(module) in _OF_SEQUENCES or is_transposed_linear(module) for module in model.modules())
    return Bipolar().of_sequences if sequences else Bipolar()


@dataclass
class _Found:
    """A module with its own parameters, and the reason if it is not converted."""

    name: str
    module: nn.Module
    kind: type[nn.Module] | None
    parameters: list[tuple[str, Tensor]]
    reason: str = ""


def kind_of(module: nn.Module) -> type[nn.Module] | None:
    """The kind of a module among those with a binary form, also for subclasses; None for other modules."""
    for kind in (*FORMS, *COMPOSITES):
        if isinstance(module, kind):
            return kind
    return type(module) if is_transposed_linear(module) else None


def _find(model: nn.Module) -> list[_Found]:
    """Every layer of a known kind, and every other module with its own parameters. Parts of attention belong to it."""
    found: list[_Found] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        kind = None if isinstance(module, BINARY) else kind_of(module)
        whole = kind in COMPOSITES or isinstance(module, tuple(COMPOSITES.values())) or _is_computed(module)
        if whole:
            inside.update(module.modules())
        parameters = list(module.named_parameters(recurse=whole))
        if kind is not None or parameters:
            found.append(_Found(name, module, kind, parameters))
    return found


def _keep(found: list[_Found], keep: Collection[str]) -> None:
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
    """The reason why a layer does not have a binary form; empty if it has one."""
    module, kind = found.module, found.kind
    if isinstance(module, BINARY):
        return "is already binary"
    if kind is None:
        held = ", ".join(name for name, _ in found.parameters)
        return _STAYS_FLOAT if _is_small(module) else f"no binary form is known; contains {held}"
    name = kind.__name__
    if type(module).forward is not kind.forward or getattr(type(module), "_conv_forward", None) is not getattr(
        kind, "_conv_forward", None
    ):
        return f"a {name} with its own forward"
    if _is_computed(module) or (kind is nn.MultiheadAttention and any(map(_is_computed, module.children()))):
        return (
            "its weight is computed from other tensors (a parametrisation, weight_norm or pruning): remove that first"
        )
    for _, parameter in found.parameters:
        if isinstance(parameter, nn.UninitializedParameter):
            return "its sizes are not known yet: run the model once first"
        if not parameter.is_floating_point():
            return f"weights of type {parameter.dtype}"
    try:
        if kind in COMPOSITES:
            check_composite(module, scheme)
        else:
            fitting_scheme(module, form_of(kind), scheme)
    except ValueError as error:
        return re.sub(r"^\[\w+\] ", "", str(error))
    return ""


def _is_computed(module: nn.Module) -> bool:
    """Whether a weight is computed from parameters: by a parametrisation, or by a hook, as in older weight_norm and in pruning."""
    return parametrize.is_parametrized(module) or (
        isinstance(getattr(module, "weight", None), Tensor) and "weight" not in module._parameters
    )


def _is_small(module: nn.Module) -> bool:
    return all(parameter.dim() <= 1 for parameter in module.parameters(recurse=False))


def _keep_ties(found: list[_Found]) -> None:
    """Convert a weight that two layers share in both of them or in neither."""
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
            apart = next((layer for layer in sharing if layer.kind in COMPOSITES), None)
            for layer in sharing if len(sharing) > 1 else ():
                if not layer.reason and (staying is not None or apart is not None):
                    other = staying or next(o for o in sharing if o is not layer)
                    layer.reason = f"its weight is also that of {other.name}" + (", which stays" if staying else "")
                    changed = True


def _check_latents(found: _Found, checked: set[int]) -> None:
    for name, parameter in found.parameters:
        if id(parameter) in checked:
            continue
        checked.add(id(parameter))
        if not all_finite(parameter):
            raise OnebitError(
                f"[convert] {found.name}.{name} contains NaN or infinity, which do not have bits: train again, or load an earlier checkpoint"
            )


def _turn_binary(found: _Found, scheme: Scheme) -> None:
    assert found.kind is not None
    if found.kind in COMPOSITES:
        turn_composite(found.module, scheme)
    else:
        turn_layer(found.module, form_of(found.kind), scheme)


def leave_fast_paths(model: nn.Module) -> None:
    """Switch off the fast path of PyTorch's encoder layers, which would read the weights without their binary layers; or restore it."""
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


_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_STAYS_FLOAT = "vectors with one number per channel stay float"


def _leave_plain_norms(found: list[_Found]) -> None:
    """Take the learned scale and shift out of normalisations, those that the caller keeps apart."""
    for layer in found:
        module = layer.module
        if isinstance(module, _NORMS) and layer.reason == _STAYS_FLOAT:
            for name in list(module._parameters):
                module.register_parameter(name, None)
            setattr(module, "elementwise_affine" if hasattr(module, "elementwise_affine") else "affine", False)
            layer.reason = "its learned scale and shift are taken out: the form has norms without parameters"


def _report(model: nn.Module, method: str, found: list[_Found], kinds: list[str]) -> ConversionReport:
    rows = []
    for layer, kind in zip(found, kinds, strict=True):
        note = layer.reason
        padding = getattr(layer.module, "padding_idx", None)
        if not note and padding is not None:
            note = f"row {padding}, the padding, becomes bits too: it is not zeros any more"
        if not note and layer.kind in (nn.LSTM, nn.GRU):
            note = "takes batches of equal lengths, not packed sequences"
        rows.append(LayerReport(layer.name, kind, not layer.reason, note, sum(_count(p) for _, p in layer.parameters)))
    everything = {id(p): _count(p) for layer in found for _, p in layer.parameters}
    converted = {id(p): _count(p) for layer in found if not layer.reason for _, p in layer.parameters}
    count = sum(row.converted for row in rows)
    title = (
        f"{type(model).__name__} with {method}: {count} of {len(rows)} layers converted, "
        f"{sum(converted.values()):,} of {sum(everything.values()):,} parameters"
    )
    return ConversionReport(title, tuple(rows))
