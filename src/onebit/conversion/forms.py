"""The binary layer for each kind of PyTorch layer, and the conversion, which does not touch its parameters."""

from __future__ import annotations

from typing import Any

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
from onebit.nn.binary import BinaryLayer
from onebit.schemes import Scheme

# Layers that stay one layer and keep their parameters.
FORMS: dict[type[nn.Module], type[BinaryLayer]] = {
    nn.Linear: BinaryLinear,
    nn.Conv1d: BinaryConv1d,
    nn.Conv2d: BinaryConv2d,
    nn.Conv3d: BinaryConv3d,
    nn.ConvTranspose2d: BinaryConvTranspose2d,
    nn.Embedding: BinaryEmbedding,
}
# Layers that become several binary layers; see composites.py.
COMPOSITES: dict[type[nn.Module], type[nn.Module]] = {
    nn.MultiheadAttention: BinaryMultiheadAttention,
    nn.LSTM: BinaryLSTM,
    nn.GRU: BinaryGRU,
}
BINARY: tuple[type[nn.Module], ...] = (
    *FORMS.values(),
    BinaryTransposedLinear,
    *COMPOSITES.values(),
)


def is_transposed_linear(module: nn.Module) -> bool:
    """Whether a module is Hugging Face's Conv1D, a dense layer with an (in, out) weight, judged by its name and shapes."""
    weight, outputs = getattr(module, "weight", None), getattr(module, "nf", None)
    return (
        type(module).__name__ == "Conv1D"
        and isinstance(weight, Tensor)
        and weight.dim() == 2
        and weight.shape[1] == outputs
    )


def form_of(kind: type[nn.Module]) -> type[BinaryLayer]:
    """The binary form of a kind of layer that keeps its parameters. A kind that is not PyTorch's is GPT-2's dense layer, Conv1D."""
    return FORMS.get(kind, BinaryTransposedLinear)


def fitting_scheme(layer: Any, form: type[BinaryLayer], scheme: Scheme) -> Scheme:
    """The scheme for the binary form of a layer. Raises ValueError if the scheme does not fit the layer's options."""
    return form.fitting(layer, scheme)


def turn_layer(layer: Any, form: type[BinaryLayer], scheme: Scheme) -> None:
    """Give a layer its binary type. Its parameters stay, and `converted_from` keeps its old type."""
    was = type(layer)
    if not hasattr(layer, "bias"):
        layer.register_parameter("bias", None)
    layer.__class__ = form
    layer.converted_from, layer.scheme = was, scheme
    layer.set_up()
    for part in (layer.threshold, layer.gain):
        if part is not None:
            part.requires_grad_(layer.weight.requires_grad)
    layer.train(layer.training)


def own_parameter(values: Tensor) -> nn.Parameter:
    """A new parameter with the values of a part of another one. It is frozen if the other is."""
    return nn.Parameter(values.detach().clone(), requires_grad=values.requires_grad)


# Attributes of every module apart from parameters, buffers and parts: its hooks, and whether it is training.
_STAYING = frozenset(nn.Module().__dict__) - {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}


def become(module: nn.Module, made: nn.Module) -> None:
    """Turn a module into a copy of another one, in place. Its hooks stay."""
    before = {key: value for key, value in module.__dict__.items() if key in _STAYING}
    module.__class__ = type(made)  # type: ignore[assignment]
    module.__dict__ = {**made.__dict__, **before}
