"""The GELUs of Hugging Face and of timm."""

from __future__ import annotations

from torch import nn

from onebit.packing.handlers import packs_foreign
from onebit.packing.layers.activation import gelu
from onebit.packing.recorder import Recorder


@packs_foreign("GELUActivation")
def _exact(r: Recorder, name: str, layer: nn.Module, x: str) -> str:
    return gelu(r, x, "none")


@packs_foreign("NewGELUActivation", "GELUTanh", "PytorchGELUTanh")
def _tanh(r: Recorder, name: str, layer: nn.Module, x: str) -> str:
    return gelu(r, x, "tanh")
