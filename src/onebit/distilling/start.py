"""Rounding that makes up for itself: what one weight loses, those after it in its row take over (GPTQ)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from onebit.distilling.layers import GroupScaledLinear, Levelled, best_scales, codes_of, stored_scale

# Of the mean of the diagonal. Inputs that hardly differ would otherwise make the inverse huge.
_DAMPING = 0.01


def compensate(w: Tensor, products: Tensor, group: int, levels: Levelled) -> tuple[Tensor, Tensor]:
    r"""Weights whose rounding changes a layer's outputs little, and their scales.

    .. math:: \min \| (W - s q) X \|^2

    Column after column is rounded, and those after it take over what it lost, weighted by how the inputs go together.

    Args:
        w: weights (outputs, inputs).
        products: sums over tokens of the products of inputs, X X^T, (inputs, inputs).
        group: the inputs that share a scale; the scales of a group are chosen when its first column is reached.
        levels: of the codes.

    Returns:
        Latent weights (outputs, inputs), whose codes are the rounded ones, and their scales (outputs, groups).

    Source: Frantar et al., GPTQ, arXiv 2210.17323, algorithm 1.
    """
    inverse = _root_of_inverse(products)
    left, latents = w.clone(), torch.empty_like(w)
    scales = []
    for first in range(0, w.shape[1], group):
        last = first + group
        scale = best_scales(left[:, first:last], group, levels)
        scales.append(scale)
        each, lost = stored_scale(scale)[:, 0], []
        for column in range(first, last):
            value = left[:, column].clone()
            latents[:, column] = value
            lost.append((value - codes_of(value, each, levels) * each) / inverse[column, column])
            left[:, column:last] -= torch.outer(lost[-1], inverse[column, column:last])
        left[:, last:] -= torch.stack(lost, 1) @ inverse[first:last, last:]
    return latents, torch.cat(scales, 1)


def _root_of_inverse(products: Tensor) -> Tensor:
    """The upper triangular root of the inverse. Inputs that are always 0 count as independent of all others."""
    h = products.double()
    diagonal = h.diagonal()
    h = h + torch.diag(_DAMPING * diagonal.mean() + (diagonal == 0) + 1e-12)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    return torch.linalg.cholesky(inverse, upper=True).to(products.dtype)


def products_of_inputs(block: nn.Module, names: Iterable[str], run: Callable[[], object]) -> dict[str, Tensor]:
    """The sums over tokens of the products of the inputs of a block's layers, by their names.

    Args:
        block: with float weights: what rounded layers give to those after them would say little of what these will see.
        names: of the layers.
        run: computes the block.
    """
    sums: dict[str, Tensor] = {}
    last: list[tuple[Tensor, Tensor]] = []

    def see(name: str, x: Tensor) -> None:
        # Layers side by side have the same input.
        if not last or last[0][0] is not x:
            with torch.autocast("cpu", enabled=False):
                rows = x.detach().flatten(0, -2).float()
                last[:] = [(x, rows.T @ rows)]
        sums[name] = last[0][1] if name not in sums else sums[name] + last[0][1]

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, inputs: see(name, inputs[0])

    hooks = [block.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        run()
    finally:
        for one in hooks:
            one.remove()
    return sums


def compensate_block(block: nn.Module, products: Mapping[str, Tensor]) -> None:
    """Round the layers of a block anew by the products of their inputs."""
    for name, of_inputs in products.items():
        layer = block.get_submodule(name)
        if isinstance(layer, GroupScaledLinear):
            latents, scales = compensate(layer.weight.detach(), of_inputs, layer.group, layer.levels)
            with torch.no_grad():
                layer.weight.copy_(latents)
                layer.scale.copy_(scales)
