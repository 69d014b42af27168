"""Runs given on standard input, each in processes forked from one that has imported everything, as torchrun would start them.

A start takes no seconds that way, and several layouts are tried in the time of one. Each line is JSON: the arguments of `train`, with the recipe's
file and `keys` of it; a line on standard output says how each process has ended.
"""

import json
import os
import socket
import sys
from typing import Any

import sklearn.datasets  # noqa: F401
import tokenizers  # noqa: F401
import torch
import torch.distributed.fsdp
import torch.utils.tensorboard

from onebit.training import load_recipe, train


def live(arguments: dict[str, Any], rank: int, world: int, port: int) -> None:
    if world > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0"}
    keys = arguments.pop("keys", {})
    recipe = load_recipe(arguments.pop("recipe")).override(keys)
    train(recipe, progress=False, **arguments)
    os._exit(0)


for line in sys.stdin:
    arguments = json.loads(line)
    world = arguments.get("devices", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        if (pid := os.fork()) == 0:
            torch.set_num_threads(1)
            live(arguments, rank, world, port)
        children.append(pid)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]), flush=True)
