"""What training does to latents and their gradients around a step: clip, pull, bound, watch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import OnebitError
from onebit.nn import BinaryLayer
from onebit.optim import Together
from onebit.training.sharding import local

# The least norm that a unit's weights count as, so that weights of zero can move: arXiv 2102.06171, section 4.
LEAST_NORM = 1e-3
CORRECTION_BEGINS = 0.8  # the share of training without CAGE's correction


def latents_of(layer: BinaryLayer) -> list[nn.Parameter]:
    """A binary layer's parameters that are binarised in use."""
    biased = layer.bias is not None and layer.scheme.bias == "bits"
    return [layer.weight, layer.bias] if biased else [layer.weight]


def clip_latents(layers: Iterable[BinaryLayer]) -> None:
    """Bring the latents of each layer back into its scheme's limits.

    A latent far outside would need many steps before its bit flips again, and under a clipped gradient it never came back.

    Source: Courbariaux et al., BinaryConnect, arXiv 1511.00363, section 2.4.
    """
    with torch.no_grad():
        for layer in layers:
            limit = layer.scheme.clip_latents
            if limit is not None:
                for latent in latents_of(layer):
                    local(latent).clamp_(-limit, limit)


def values_of(layer: BinaryLayer) -> tuple[Tensor, Tensor]:
    """The threshold of a layer's latent weights, and how far from it the two values lie that its bits stand for. Both broadcast, without a gradient.

    The distance is 1 for plain signs, or else the mean of |w - threshold| of the weights that share a threshold or a scale.
    """
    weights, w = layer.scheme.weights, layer.weight
    axes = weights.scale_axes(w, layer.output_axis)
    with torch.no_grad():
        centre = weights.centre(w, layer.output_axis)
        return centre, w.new_ones(()) if axes is None else (w - centre).abs().mean(axes, keepdim=True)


def check_corrected(layers: Iterable[BinaryLayer]) -> None:
    """Refuse weights of several bits, which `correct_latents` does not know; raises OnebitError."""
    for layer in layers:
        if layer.scheme.weights.bits > 1:
            raise OnebitError(f"[cage] {type(layer.scheme).__name__} has weights of several bits: use cage=0")


def correct_latents(layers: Iterable[BinaryLayer], optimizer: torch.optim.Optimizer, strength: float) -> None:
    r"""Draw latent weights towards the values of their bits, after a step of Adam: the curvature-aware correction of CAGE.

    .. math:: w \leftarrow w - \eta \lambda_t (w - Q(w)), \qquad Q(w) = c + \alpha \operatorname{sign}(w - c)

    c and alpha are those of `values_of`. Adam divides the gradient by its second moment, which stands for the curvature, and this term not. So near
    a minimum the latent weights of a flat direction go to their values, and those of a steep direction stay where the loss wants them.

    Args:
        layers: with weights of one bit.
        optimizer: its groups have the learning rate eta of the step.
        strength: lambda_t; see `correction_strength`.

    Source: Tabesh et al., CAGE, arXiv 2510.18784, algorithm 1, decoupled.
    """
    if not strength:
        return
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    with torch.no_grad():
        for layer in layers:
            centre, distance = values_of(layer)
            w = layer.weight
            share = min(1.0, rates.get(id(w), 0.0) * strength)
            w.lerp_(torch.where(w > centre, centre + distance, centre - distance), share)


def correction_strength(highest: float, progress: float) -> float:
    """The strength of `correct_latents`: 0 for the first `CORRECTION_BEGINS` of training, then rising in a line to the highest.

    Source: the authors' code, with its default.
    """
    return highest * max(0.0, progress - CORRECTION_BEGINS) / (1 - CORRECTION_BEGINS)


def pull(layer: BinaryLayer) -> Tensor:
    r"""How far the latents of a layer are from the two values that its bits stand for: a regulariser that is W-shaped.

    .. math:: R(w) = \sum_i \big| |w_i - c| - \alpha \big|

    c is the threshold: 0, or the mean where the scheme compares with a mean; alpha is 1 for plain signs, or else the mean of |w - c|, the scale,
    for each output where the scheme has a threshold or a scale for each. Neither gets a gradient of it.

    Raises:
        OnebitError: the layer's weights have more than one bit.

    Source: Bai et al., ProxQuant, arXiv 1810.00861, about plus and minus one; Darabi et al., BNN+, arXiv 1812.11800, about alpha.
    """
    weights, w = layer.scheme.weights, layer.weight
    if weights.bits > 1:
        raise OnebitError(f"[pull] {type(layer.scheme).__name__} has weights of several bits: use pull=0")
    centre, alpha = values_of(layer)
    return ((w - centre).abs() - alpha).abs().sum()


def clip_gradient(parameter: Tensor, share: float, axis: int = 0) -> None:
    r"""Bound the gradient of each output's weights by a share of their norm: adaptive gradient clipping.

    .. math:: G_i \leftarrow \lambda \frac{\|W_i\|^\star}{\|G_i\|} G_i \text{ where } \frac{\|G_i\|}{\|W_i\|^\star} > \lambda, \qquad
              \|W_i\|^\star = \max(\|W_i\|, 10^{-3})

    Args:
        parameter: weights with a gradient, which is changed in place; biases and other rows of numbers are one unit.
        share: lambda.
        axis: of the outputs i.

    Source: Brock et al., arXiv 2102.06171, eq. 3.
    """
    gradient = parameter.grad
    if gradient is None:
        return
    axes = [a for a in range(parameter.dim()) if a != axis] if parameter.dim() > 1 else list(range(parameter.dim()))
    with torch.no_grad():
        allowed = share * torch.linalg.vector_norm(parameter, dim=axes, keepdim=True).clamp_min(LEAST_NORM)
        norm = torch.linalg.vector_norm(gradient, dim=axes, keepdim=True)
        gradient.mul_((allowed / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1))


def clipped_parameters(model: nn.Module, layers: Mapping[str, BinaryLayer]) -> list[tuple[nn.Parameter, float, int]]:
    """The parameters whose gradient is bounded, each with its share and the axis of its outputs.

    Where a scheme asks for adaptive gradient clipping it is for the whole network but its last layer, as its authors have it; a binary layer without
    one is left alone.
    """
    shares = [layer.scheme.gradient_clipping for layer in layers.values()]
    asked = [share for share in shares if share is not None]
    if not asked:
        return []
    weights = ((m, getattr(m, "weight", None)) for m in model.modules())
    weighted = [m for m, weight in weights if isinstance(weight, Tensor) and weight.dim() > 1]
    last = {id(p) for p in weighted[-1].parameters()}
    found: list[tuple[nn.Parameter, float, int]] = []
    for module in model.modules():
        layer = next((layer for layer in layers.values() if layer is module), None)
        share = min(asked) if layer is None else layer.scheme.gradient_clipping
        if share is not None:
            own = [p for p in module.parameters(recurse=False) if id(p) not in last]
            found += [(p, share, 0 if layer is None or p.dim() < 2 else layer.output_axis) for p in own]
    return found


def follows_progress(module: nn.Module) -> bool:
    """Whether a layer has a gradient that changes while training goes on."""
    scheme = getattr(module, "scheme", None)
    if getattr(getattr(scheme, "estimator", None), "follows_progress", False):
        return True
    parts = [
        module,
        getattr(module, "quantizer", None),
        *(getattr(scheme, part, None) for part in ("weights", "activations")),
    ]
    return any(getattr(getattr(part, "gradient", None), "follows_progress", False) for part in parts)


def set_progress(modules: Iterable[Any], progress: float) -> None:
    """Tell layers how far training has come, 0 to 1, for gradients that change on the way."""
    for module in modules:
        module.progress = progress


def check_latents(layers: Mapping[str, BinaryLayer], where: str) -> None:
    """Stop where a latent is NaN or infinite: all comparisons with NaN are false, so that the loss alone does not show it.

    Args:
        where: the step, for the message.

    Raises:
        OnebitError: it names the layer.
    """
    if not layers:
        return
    names, latents = zip(
        *[(name, local(p.detach())) for name, layer in layers.items() for p in latents_of(layer)], strict=True
    )
    # A norm is the quickest look at a tensor; where it overflows the tensor may still be finite.
    norms = torch.stack(torch._foreach_norm(list(latents)))
    if bool(torch.isfinite(norms).all()):
        return
    for name, latent in zip(names, latents, strict=True):
        wrong = latent[~torch.isfinite(latent)]
        if len(wrong):
            raise OnebitError(
                f"[train] the latents of {name} hold {wrong[0].item()} at {where}: use a lower learning_rate; the last checkpoint stands"
            )


def forget_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Drop what an optimizer knows of past gradients."""
    if isinstance(optimizer, Together):
        optimizer.forget()
    else:
        optimizer.state.clear()
