"""Trained networks as the tensors that `onebit.importing` writes: with the source's tokenizer, table and head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from onebit.distilling.layers import GroupScaledLinear
from onebit.distilling.network import MATRICES, NORMS
from onebit.importing.blocks import Decoded, Levels
from onebit.importing.matrices import Matrix
from onebit.importing.parts import Parts
from onebit.importing.stored import StoredTensor
from onebit.models.decoder import LanguageDecoder
from onebit.nn import BinaryLinear


class Trained(Matrix):
    """A matrix of a trained network.

    Args:
        stored: where its first weights came from.
        layer: with its weights.
    """

    def __init__(self, stored: StoredTensor, layer: nn.Module) -> None:
        assert isinstance(layer, (GroupScaledLinear, BinaryLinear))
        self.stored, self._layer = stored, layer
        self.rows, self.columns = layer.weight.shape
        grouped = isinstance(layer, GroupScaledLinear)
        self.kind = f"{stored.coding.name}, trained"
        self._form = "ternary" if not grouped else "signs" if layer.levels == "bits" else "levels"

    @property
    def form(self) -> str:
        return self._form

    @property
    def group(self) -> int:
        return self._layer.group if isinstance(self._layer, GroupScaledLinear) else self.columns

    def pieces(self) -> Iterator[tuple[int, Decoded]]:
        yield 0, self._decoded()

    def one_scale(self) -> float:
        decoded = self._decoded()
        assert isinstance(decoded, Levels)
        return float(decoded.scales[0, 0])

    def _decoded(self) -> Decoded:
        if isinstance(self._layer, GroupScaledLinear):
            return self._layer.decoded()
        with torch.no_grad():
            codes, scale = self._layer.weight_codes()  # of two planes: -2, 0 and 2
        assert scale is not None
        both = np.full((self.rows, 1), 2 * float(scale), np.float32)
        return Levels((codes / 2).to(torch.int8).numpy(), both)


class TrainedParts(Parts):
    """The tensors of a model, those of its blocks (biases included) and its norms out of a trained network.

    Args:
        source: the model that the network began with.
        network: the trained network. If it has sub norms that the source has not, it is one of BitNet's family.
    """

    def __init__(self, source: Parts, network: LanguageDecoder) -> None:
        sizes = source.sizes
        if not sizes.has_sub_norms and "hidden_norm" in dict(network.blocks[0].named_modules()):
            sizes = replace(sizes, family="bitnet", interleaved=False)
        super().__init__(sizes, source.tensors, source.names, source.packed, source.where)
        # Every tensor has found its place in the network.
        self.used |= source.used
        self._layers: dict[str, nn.Module] = {}
        self._norms: dict[str, nn.Module] = {"norm": network.get_submodule("head_norm")}
        for index, block in enumerate(network.blocks):
            modules = dict(block.named_modules())
            ours = {f"blocks.{index}.{theirs}": modules[name] for name, theirs in MATRICES.items()}
            self._layers |= ours
            self._norms |= {f"blocks.{index}.{theirs}": modules[n] for n, theirs in NORMS.items() if n in modules}

    def matrix(self, name: str, rows: int, columns: int) -> Matrix:
        if name not in self._layers:
            return super().matrix(name, rows, columns)
        return Trained(self._stored(f"{self.names[name]}.weight"), self._layers[name])

    def vector(self, name: str, length: int, kind: str = "weight") -> NDArray[np.float32]:
        owner = (self._layers if kind == "bias" else self._norms).get(name)
        if owner is None:
            return super().vector(name, length, kind)
        trained = owner.bias if kind == "bias" else owner.weight
        assert isinstance(trained, nn.Parameter)
        values: NDArray[np.float32] = trained.detach().numpy()
        return values
