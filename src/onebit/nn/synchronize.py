"""Batch statistics over a batch that is divided among processes: each process uses those of the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each process's loss depends on it, so its gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def synchronized_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    r"""`F.batch_norm` in training mode, with mean and variance over the examples of all processes.

    .. math:: y = w (x - \mu) / \sqrt{\sigma^2 + \epsilon} + b

    Args:
        x: (batch, channels, ...) of this process. The batch may be empty. x is float32, or another float type with float32 statistics.
        running_mean, running_var: (channels), updated in place as in PyTorch.
        weight, bias: (channels), or None.
        momentum: the share of a batch in the running statistics.
        eps: added to the (biased) variance.

    PyTorch's own `SyncBatchNorm` supports only GPUs.
    """
    axes = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    # The number of elements travels with the sums. It has no gradient.
    wide = x.float()
    count = wide.new_full((1,), x.numel() / x.shape[1])
    sums: Tensor = _Sum.apply(torch.cat([wide.sum(axes), count]))  # type: ignore[no-untyped-call]
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    variance: Tensor = _Sum.apply(centred.square().sum(axes)) / count  # type: ignore[no-untyped-call]
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((variance * count / (count - 1).clamp_min(1)).to(running_var.dtype), momentum)
    y = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        y = y * weight.view(shape)
    if bias is not None:
        y = y + bias.view(shape)
    return y.to(x.dtype)


class SynchronizedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch normalisation for any number of axes; see `synchronized_batch_norm`. `synchronize_statistics` makes it."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # the layer that it replaces was already built for its input

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            result: Tensor = super().forward(input)
            return result
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        return synchronized_batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.momentum, self.eps
        )


def synchronize_statistics(model: nn.Module) -> None:
    """Let all layers with running batch statistics use the whole batch of all processes."""
    module: Any
    for module in model.modules():
        if hasattr(module, "synchronized"):
            module.synchronized = True
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                copy = SynchronizedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
                # The same tensors, so that other references to them stay valid.
                copy._parameters, copy._buffers = child._parameters, child._buffers
                setattr(parent, name, copy.train(child.training))
