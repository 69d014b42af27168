"""A last layer of floats that loses most of its weights while a network trains: gradual magnitude pruning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onebit.errors import OnebitError
from onebit.nn import BinaryLayer

# Weights are pruned so many times over the training: sorting them in every step would cost more than it gives.
PRUNINGS = 100


class HeadPruning:
    r"""Prunes the last layer of a network step by step, the weights of the smallest magnitude first.

    .. math:: s_t = s_f \left(1 - \left(1 - \frac{t - b}{e - b}\right)^3\right)

    is the share of weights that are 0 when the share t of the training is done, s_f the share at the end. A weight that is 0 stays 0, so
    the weights themselves say what is pruned, and a resumed run goes on as one that was not interrupted.

    Args:
        model: its last layer with weights is a dense layer of floats.
        keeps: 1 - s_f, above 0 and at most 1.
        begins, ends: b and e, 0 to 1.
        steps: of the whole training.

    Raises:
        OnebitError: the last layer is not one of floats, or shares its weights with another layer.

    Source: Zhu & Gupta, arXiv 1710.01878, equation 1.
    """

    def __init__(self, model: nn.Module, keeps: float, begins: float, ends: float, steps: int) -> None:
        self.weight = last_floats(model)
        self._keeps, self._begins, self._ends, self._steps = keeps, begins, ends, steps
        self._every = max(1, steps // PRUNINGS)

    def kept(self, progress: float) -> int:
        """How many weights are left when this share of the training is done."""
        gone = min(1.0, max(0.0, (progress - self._begins) / (self._ends - self._begins)))
        sparsity = (1 - self._keeps) * (1 - (1 - gone) ** 3)
        return max(1, round((1 - sparsity) * self.weight.numel()))

    @property
    def done(self) -> bool:
        """Whether the layer has lost all that it loses."""
        return int(self.weight.count_nonzero()) <= self.kept(1.0)

    def pruned(self) -> Tensor:
        """Which weights are 0, before a step that could change them."""
        gone: Tensor = self.weight.detach() == 0
        return gone

    @torch.no_grad()
    def after_step(self, step: int, pruned: Tensor) -> None:
        """Keep pruned weights at 0, and prune more where it is time.

        Args:
            step: how many steps are done, from 1.
            pruned: what `pruned` gave before the step.
        """
        if step / self._steps < self._begins:
            return
        self.weight[pruned] = 0
        if step % self._every and step < self._steps:
            return
        kept = self.kept(step / self._steps)
        if kept < self.weight.numel():
            smallest = (
                torch.abs(self.weight).flatten().topk(self.weight.numel() - kept, largest=False, sorted=False).indices
            )
            self.weight.view(-1)[smallest] = 0


def last_floats(model: nn.Module) -> nn.Parameter:
    """The weight of a network's last layer, which is a dense layer of floats; raises OnebitError."""
    found = [(m, getattr(m, "weight", None)) for m in model.modules()]
    weighted = [m for m, weight in found if isinstance(weight, Tensor) and weight.dim() > 1]
    last = weighted[-1] if weighted else model
    if type(last) is not nn.Linear:
        kind = type(last).__name__
        fix = (
            "use a network whose last layer stays float (hybrid=true)"
            if isinstance(last, BinaryLayer)
            else "needs one of type Linear"
        )
        raise OnebitError(f"[head_share] the last layer with weights is of type {kind}: {fix}, or head_share=1")
    if any(m is not last and m.weight is last.weight for m in weighted):
        raise OnebitError("[head_share] the last layer shares its weights with another layer: use head_share=1")
    assert isinstance(last.weight, nn.Parameter)
    return last.weight
