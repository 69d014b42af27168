"""What each layer of a model weighs in a packed file: the model is recorded as for packing, and nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import nn

from onebit.errors import PackError
from onebit.nn import BinaryRecurrence
from onebit.nn.wrapped import in_use
from onebit.packing.handlers import handler_of
from onebit.packing.recorder import Recorder
from onebit.packing.trace import trace
from onebit.program import Shape


@dataclass(frozen=True)
class PackedBytes:
    """Bytes of a file's tensors.

    Args:
        layers: for each layer with parameters of its own, by its name in `named_modules`; None where a program cannot express it.
        others: of constants between the layers.
        reason: why the model as a whole cannot be packed; the layers are then recorded one by one, and no scales of theirs are merged. "" where
            it can be.
    """

    layers: Mapping[str, int | None]
    others: int
    reason: str


def packed_bytes(model: nn.Module, shape: Shape | None, tokens: bool) -> PackedBytes:
    """Record a model as `pack` does.

    Args:
        shape: of one input as a program has it, channels last; None where it is not known: the layers are then recorded one by one.
        tokens: the input is a sequence of tokens.
    """
    names = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    reason = "its input is not known"
    with in_use(model):
        if any(parameter.is_meta for parameter in model.parameters()):
            return PackedBytes(dict.fromkeys(names), 0, "it has no values: its parameters are on the device meta")
        if shape is not None:
            try:
                tensors = trace(model, shape, tokens=tokens).tensors
            except PackError as error:
                reason = str(error)
            else:
                layers, others = _by_layer(names, tensors)
                return PackedBytes(layers, others, "")
        r = Recorder("")
        refused = {name for name in names if not _record(r, name, model.get_submodule(name))}
    layers, others = _by_layer(names, r.tensors)
    return PackedBytes({name: None if name in refused else layers[name] for name in names}, others, reason)


def _by_layer(names: list[str], tensors: Mapping[str, NDArray[Any]]) -> tuple[dict[str, int], int]:
    """The bytes of each layer's tensors, whose names begin with the layer's; and of all others."""
    layers, others = dict.fromkeys(names, 0), 0
    for tensor, values in tensors.items():
        parts = tensor.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts) - 1, -1, -1))
        owner = next((prefix for prefix in prefixes if prefix in layers), None)
        if owner is None:
            others += values.nbytes
        else:
            layers[owner] += values.nbytes
    return layers, others


def _record(r: Recorder, name: str, layer: nn.Module) -> bool:
    """Record one layer by itself; whether that is possible."""
    handler = handler_of(layer)
    if handler is None:
        return False
    shape, tokens = _smallest_input(layer)
    try:
        handler(r, name, layer, r.begin(shape, tokens))
    except PackError:
        return False
    return True


def _smallest_input(layer: Any) -> tuple[Shape, bool]:
    """The shape of an input that a layer takes, and whether it is of tokens: what a layer weighs does not depend on it."""
    if isinstance(layer, nn.Embedding):
        return (1,), True
    if isinstance(layer, (nn.LSTM, nn.GRU)):
        return (1, layer.input_size), True
    if isinstance(layer, BinaryRecurrence):
        return (1, layer.inputs.in_features), True
    if isinstance(layer, nn.ConvTranspose2d):
        return (1, 1, layer.in_channels), False
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        sides = (d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
        return (*sides, layer.in_channels), False
    sizes = (getattr(layer, name, None) for name in ("in_features", "num_features", "num_channels"))
    features = next((size for size in sizes if size), next(layer.parameters()).shape[0])
    return (features,), False
