"""What a recipe changes in the binary layers of a network that stands: their estimator, and learned scales. So both go with every scheme and form."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from torch import nn

from onebit.nn import BinaryLayer, BinaryRecurrence
from onebit.nn.binary import binary_layers
from onebit.quantizers import Elastic, Estimator

Network = TypeVar("Network", bound=nn.Module)


def adapted(model: Network, estimator: Estimator | None, learn_scales: bool) -> Network:
    """The network, with an estimator and learned scales. It is changed in place, before anything is trained.

    Args:
        model: with binary layers or without.
        estimator: of all binary layers; None leaves them what their schemes have.
        learn_scales: whether the scale of each output becomes a parameter.

    Raises:
        ValueError: a layer's weights have several bits, or a recurrence shall learn scales.
    """
    for name, layer in binary_layers(model).items():
        if estimator is not None:
            layer.scheme = replace(layer.scheme, estimator=estimator)
        if learn_scales:
            _learn_scale(layer, name)
    return model


def _learn_scale(layer: BinaryLayer, name: str) -> None:
    """Make a layer's scale a parameter that starts at the scheme's scale, times the scheme's own gain where it has one."""
    if isinstance(layer, BinaryRecurrence):
        raise ValueError(f"[learned_scales] {name} is recurrent: use learned_scales=false")
    weights = Elastic(layer.scheme.weights)
    layer.scheme = replace(layer.scheme, weights=weights, gain=True)
    scale = weights.first_scale(layer.weight, layer.output_axis)
    layer.gain = nn.Parameter(scale if layer.gain is None else scale * layer.gain.detach())
