"""Networks in shards: each process holds a part of every latent, its gradient and its optimizer's state, and checkpoints are whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from onebit.nn import TransformerBlock


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the latents of a network among processes: each transformer block is gathered by itself, when it computes, and the rest together."""
    for block in [module for module in model.modules() if isinstance(module, TransformerBlock)]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, which is all of it where there are no shards; for what is done to each element by itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """While it is open, the latents of a network are whole in each process, to be looked at."""
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()


def whole(value: Any) -> Any:
    """A state whose tensors are gathered, on the CPU where they were in shards; all processes have to ask for it."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: whole(v) for key, v in value.items()}
    return [whole(v) for v in value] if isinstance(value, list) else value


class ShardedStrategy(ModelParallelStrategy):
    """PyTorch's FSDP by Lightning, with checkpoints in the one file and form that a single process reads and writes.

    Args:
        world: the number of processes.
    """

    def __init__(self, world: int) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # after an evaluation the outermost is still gathered
        state: dict[str, Any] = whole(self.model.state_dict())
        return state

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state: dict[str, Any] = whole(plain.state_dict())
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        content: dict[str, Any] = ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)
        return content

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        own = self.model.state_dict()
        with torch.no_grad():
            for name, value in checkpoint["state_dict"].items():
                own[name].copy_(_like(value, own[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            # A state knows parameters by their number in the optimizer's groups.
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            parts = {
                number: {key: _like(value, parameters[number]) for key, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})


def _like(value: Any, other: Tensor) -> Any:
    """A whole tensor in the shards of another of its shape; anything else as it is."""
    if not isinstance(other, DTensor) or not isinstance(value, Tensor) or value.shape != other.shape:
        return value
    # Each process has read the whole, so that nothing is to be sent.
    value = value.to(other.device)
    return distribute_tensor(value, other.device_mesh, other.placements, src_data_rank=None)
