"""Which binary layer each kind of PyTorch's layers becomes, and how it becomes it without its parameters being touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from onebit.nn import (
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose2d,
    BinaryEmbedding,
    BinaryGRU,
    BinaryLinear,
    BinaryLSTM,
    BinaryMultiheadAttention,
    BinaryTransposedLinear,
)
from onebit.nn.bits import set_up
from onebit.nn.conv import check_groups, check_transposed
from onebit.nn.embedding import scheme_of_tokens
from onebit.schemes import Scheme


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
# Layers that are made of several binary ones; composites.py.
COMPOSITES: dict[type[nn.Module], type[nn.Module]] = {
    nn.MultiheadAttention: BinaryMultiheadAttention,
    nn.LSTM: BinaryLSTM,
    nn.GRU: BinaryGRU,
}
BINARY: tuple[type[nn.Module], ...] = (
    *(form.binary for form in FORMS.values()),
    BinaryTransposedLinear,
    *COMPOSITES.values(),
)


def is_transposed_linear(module: nn.Module) -> bool:
    """Whether a module is Hugging Face's Conv1D, a dense layer with its weight as (in, out); told by its name and its shapes."""
    weight, outputs = getattr(module, "weight", None), getattr(module, "nf", None)
    return (
        type(module).__name__ == "Conv1D"
        and isinstance(weight, Tensor)
        and weight.dim() == 2
        and weight.shape[1] == outputs
    )


def form_of(kind: type[nn.Module]) -> Form:
    """The binary form of a kind of layer that keeps its parameters."""
    return FORMS.get(kind, TRANSPOSED)


def turn_layer(layer: Any, form: Form, scheme: Scheme) -> None:
    """Give a layer its binary type; its parameters stay, and what it was is remembered in `converted_from`."""
    layer.converted_from = type(layer)
    layer.__class__ = form.binary
    layer.latent_spread = 1.0
    if not hasattr(layer, "bias"):
        layer.register_parameter("bias", None)
    inputs, outputs = form.sizes(layer)
    set_up(layer, form.check(layer, scheme), inputs, outputs, form.axis)
    for part in (layer.threshold, layer.gain):
        if part is not None:
            part.requires_grad_(layer.weight.requires_grad)
    layer.train(layer.training)


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
