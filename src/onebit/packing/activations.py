"""Activations that are ops by themselves: what each is called as a layer, of PyTorch and of other libraries, and as a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from onebit.nn import ReluSquared


@dataclass(frozen=True)
class Activation:
    """One op of the same formula.

    Args:
        op: its name in a program.
        layers: PyTorch's.
        functions: what a graph calls: functions by themselves, methods by their names.
        foreign: the names of other libraries' layers.
    """

    op: str
    layers: tuple[type[nn.Module], ...] = ()
    functions: tuple[Any, ...] = ()
    foreign: tuple[str, ...] = ()


ACTIVATIONS = (
    Activation("relu", (nn.ReLU,), (torch.relu, F.relu, "relu", "relu_")),
    Activation("relu_squared", (ReluSquared,), foreign=("ReLUSquaredActivation",)),
    Activation("hard_sigmoid", (nn.Hardsigmoid,), (F.hardsigmoid,)),
    Activation("hard_swish", (nn.Hardswish,), (F.hardswish,)),
    Activation("sigmoid", (nn.Sigmoid,), (torch.sigmoid, F.sigmoid, "sigmoid", "sigmoid_")),
    Activation("silu", (nn.SiLU,), (F.silu,)),
    Activation("tanh", (nn.Tanh,), (torch.tanh, F.tanh, "tanh", "tanh_")),
)
