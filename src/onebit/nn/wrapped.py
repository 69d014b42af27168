"""Find the network inside a wrapper (compiled, averaged or distributed), and look at a network without changing it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from onebit.errors import OnebitError

# Their forward calls their `module`.
_WRAPPERS = (AveragedModel, DataParallel, DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside a wrapper.

    It unwraps `torch.compile`, `AveragedModel`, `DataParallel`, `DistributedDataParallel`, and classes with a `module` but without their own
    forward, which some libraries use for averages of weights.

    Args:
        model: any network.

    Returns:
        The network inside, or `model` itself if it is not wrapped.

    Raises:
        OnebitError: it is not an nn.Module, or each device has only a part of the parameters (FSDP).

    Example:
        >>> network = nn.Linear(2, 2)
        >>> unwrapped(torch.nn.DataParallel(network)) is network
        True
    """
    while True:
        _refuse_parts(model)
        # torch.compile's class is private, so it is recognised by its members.
        inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module) and _stands_for_module(model):
            inner = getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _stands_for_module(model: nn.Module) -> bool:
    return isinstance(model, _WRAPPERS) or type(model).forward is nn.Module.forward


def _refuse_parts(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise OnebitError(f"[model] is of type {type(model).__name__}: give an nn.Module")
    # Both exist only if they have been imported.
    fsdp, tensor = sys.modules.get("torch.distributed.fsdp"), sys.modules.get("torch.distributed.tensor")
    wrapped = fsdp is not None and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in model.modules())
    if wrapped or (tensor is not None and any(isinstance(p, tensor.DTensor) for p in model.parameters())):
        raise OnebitError(
            f"[{type(model).__name__}] its parameters are divided among devices: load "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) "
            "into the network without FSDP, and use that"
        )


@contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients. At the end each module is in its old mode again."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, state in training.items():
            module.training = state
