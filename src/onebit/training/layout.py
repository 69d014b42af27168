"""On what a network is trained: processes on one or more machines, each with its share of every batch, and what they do together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from onebit.errors import OnebitError, shown
from onebit.training.recipe import Recipe
from onebit.training.sharding import ShardedStrategy

StrategyName = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True)
class Layout:
    """How many processes train, and who starts them.

    Args:
        devices: GPUs of each machine, or processes on its CPU where it has none.
        nodes: machines.
        strategy: "ddp": each device holds the whole network; "fsdp": each holds a part of latents, gradients and the optimizer's state, and gathers a
            block at a time; "auto": ddp. One device holds all of it with any.

    Raises:
        OnebitError: a number or the strategy is out of range, there are fewer GPUs, or a launcher has started another number of processes.
    """

    devices: int = 1
    nodes: int = 1
    strategy: StrategyName = "auto"

    def __post_init__(self) -> None:
        for key in ("devices", "nodes"):
            check_count(key, getattr(self, key))
        if not isinstance(self.strategy, str) or self.strategy not in get_args(StrategyName):
            raise OnebitError(f"[train] strategy={shown(self.strategy)}: use {', '.join(get_args(StrategyName))}")
        gpus = torch.cuda.device_count()
        if torch.cuda.is_available() and self.devices > gpus:
            raise OnebitError(f"[train] devices={self.devices}: this machine has {gpus} GPUs: use {gpus} or fewer")
        started = _processes_started()
        if started is not None and started != self.world:
            raise OnebitError(
                f"[train] devices={self.devices} and nodes={self.nodes} are {self.world} processes, but {started} were started: give what was started"
            )
        if started is None and self.nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(os.environ):
            raise OnebitError(
                f"[train] nodes={self.nodes}: start each with torchrun or srun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each"
            )

    @property
    def world(self) -> int:
        """How many processes there are in all."""
        return self.devices * self.nodes

    @property
    def starts_processes(self) -> bool:
        """Whether this process has to start those that train, rather than be one of them."""
        return self.world > 1 and _processes_started() is None

    @property
    def rank(self) -> int:
        """The number of this process among all, or of the first that it starts."""
        if _processes_started() is None:
            return int(os.environ["NODE_RANK"]) * self.devices if self.nodes > 1 else 0
        return _rank()

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the network only."""
        return self.world > 1 and self.strategy == "fsdp"

    def check_recipe(self, recipe: Recipe) -> None:
        """Refuse what cannot be divided; raises OnebitError."""
        size = recipe.optimizer.batch_size
        if size % self.world:
            least = -(-size // self.world) * self.world
            raise OnebitError(
                f"[train] batch_size={size} cannot be divided among {self.world} devices: use a multiple of {self.world}, such as {least}"
            )
        if self.sharded and not recipe.shardable:
            raise OnebitError("[train] strategy=fsdp is for text; networks of images are small: use strategy=ddp")
        if self.sharded and recipe.optimizer.name == "muon":
            raise OnebitError("[train] optimizer=muon takes whole matrices: use strategy=ddp with it")
        if self.sharded and recipe.optimizer.pull:
            raise OnebitError(
                f"[train] pull={recipe.optimizer.pull} looks at whole latents in every step: use strategy=ddp with it"
            )

    def trainer_options(self) -> dict[str, Any]:
        """What Lightning's trainer is to be told."""
        if self.world == 1:
            return {"accelerator": "auto", "devices": 1}
        environment = TorchElasticEnvironment() if "RANK" in os.environ else SLURMEnvironment(auto_requeue=False)
        # Statistics of batches are alike in all processes by themselves.
        whole = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True, cluster_environment=environment)
        sharded = ShardedStrategy(self.world)
        sharded.cluster_environment = environment
        return {
            "accelerator": "cuda" if torch.cuda.is_available() else "cpu",
            "devices": self.devices,
            "num_nodes": self.nodes,
            "strategy": sharded if self.sharded else whole,
            "use_distributed_sampler": False,
        }


def check_count(key: str, value: Any) -> None:
    """Refuse what is not an integer from 1; raises OnebitError."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise OnebitError(f"[train] {key}={shown(value)}: use 1 or more")


def _processes_started() -> int | None:
    """How many processes torchrun, SLURM or this program has started, of which this is one; None: this one alone."""
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= set(os.environ):
        return int(os.environ["WORLD_SIZE"])
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    return tasks if tasks > 1 and "SLURM_PROCID" in os.environ else None


def _rank() -> int:
    return int(os.environ["RANK"] if "RANK" in os.environ else os.environ["SLURM_PROCID"])


def is_first() -> bool:
    """Whether this process is the one that writes files and prints results."""
    return _processes_started() is None or _rank() == 0


def together() -> bool:
    """Whether several processes train."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def total(values: Tensor) -> list[float]:
    """The sums of numbers over all processes."""
    sums = values.clone()
    if together():
        dist.all_reduce(sums)
    return [float(value) for value in sums.tolist()]


def gathered_objects(value: Any) -> list[Any]:
    """What each process has, in the order of their ranks, in all of them."""
    if not together():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
