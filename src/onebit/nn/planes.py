"""Networks that run with the first 1, 2, ... bits of each weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from onebit.nn.exits import AfterExits, Exit
from onebit.quantizers.nested import NestedSigns


class PlaneNorms(nn.Module):
    """A normalisation over the batch for each number of planes, of which one is in use.

    Sums of one plane have another mean and another deviation than sums of two, so each number of planes has its own statistics.

    Args:
        make: makes one normalisation: a `Normalize` over "batch", or a batch normalisation.
        planes: how many to make.

    Shape:
        Those of the normalisation.
    """

    def __init__(self, make: Callable[[], nn.Module], planes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(make() for _ in range(planes))
        self.in_use = planes

    @property
    def norm(self) -> Any:
        """The one in use."""
        return self.norms[self.in_use - 1]

    @property
    def over(self) -> str:
        """See `Normalize`."""
        return "batch"

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return y

    def extra_repr(self) -> str:
        return f"in_use={self.in_use}"


def with_planes(weights: object, make: Callable[[], nn.Module]) -> nn.Module:
    """The normalisation over the batch after a layer with these weights: one, or one for each number of planes."""
    if isinstance(weights, NestedSigns) and weights.most > 1:
        return PlaneNorms(make, weights.most)
    return make()


def most_planes(model: nn.Module) -> int:
    """The number of planes that a network was made for; 1 if its weights are not `NestedSigns`."""
    weights = [getattr(getattr(module, "scheme", None), "weights", None) for module in model.modules()]
    return max((w.most for w in weights if isinstance(w, NestedSigns)), default=1)


def planes_in_use(model: nn.Module) -> int:
    """The most planes that a layer of a network uses now; 1 if its weights are not `NestedSigns`."""
    weights = [getattr(getattr(module, "scheme", None), "weights", None) for module in model.modules()]
    return max((len(w.planes) for w in weights if isinstance(w, NestedSigns)), default=1)


def use_planes(model: nn.Module, planes: int) -> None:
    """Let a network run with the first planes of its weights, and with the statistics of that number.

    Args:
        model: with layers of `onebit.schemes.Nested`. Other layers stay as they are.
        planes: from 1 up; layers with fewer use all of theirs.

    Raises:
        ValueError: `planes` is below 1, or more than the network has.

    Example:
        >>> scheme = onebit.schemes.Nested(2)
        >>> use_planes(onebit.models.conv_classifier(num_classes=10, widths=(8, 16), scheme=scheme), 1)
    """
    most = most_planes(model)
    if type(planes) is not int or not 1 <= planes <= most:
        raise ValueError(f"[use_planes] planes={planes!r}: use 1 to {most}")
    for module in model.modules():
        weights = getattr(getattr(module, "scheme", None), "weights", None)
        if isinstance(weights, NestedSigns):
            used = min(planes, weights.most)
            layer: Any = module
            layer.scheme = replace(layer.scheme, weights=replace(weights, used=used))
        elif isinstance(module, PlaneNorms):
            module.in_use = min(planes, len(module.norms))
        elif isinstance(module, (Exit, AfterExits)):
            module.in_use = planes
