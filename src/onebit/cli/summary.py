"""`onebit summary`: describe the network of a run, layer by layer."""

from __future__ import annotations

import argparse
from typing import Any

from onebit.cli import arguments

EXAMPLES = """examples:
  onebit summary runs/images
  onebit summary runs/images --json
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "summary",
        run,
        EXAMPLES,
        help="describe a trained network, layer by layer",
        description="Print for each layer: parameters, bits, bytes before and after packing, and one-bit and float multiply-accumulates for "
        "one image or for a text of full context length.",
    )
    parser.add_argument("folder", type=arguments.path, metavar="RUN", help="a run folder that 'onebit train' wrote")
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    import numpy as np
    import torch

    from onebit.images import ImageTask
    from onebit.model_summary import summary
    from onebit.tasks.array_task import ArrayTask
    from onebit.training import load_run
    from onebit.training.arrays import to_network

    trained = load_run(args.folder)
    model: Any = trained.model
    if isinstance(trained.task, ArrayTask):
        one = to_network(np.zeros((1, *trained.task.input_shape), np.float32), trained.task)
        result = summary(model, tuple(one.shape[1:]), dtype=one.dtype)
    elif isinstance(trained.task, ImageTask):
        result = summary(model, (trained.task.channels, *trained.task.image_size))
    else:
        result = summary(model, (model.context,), dtype=torch.long)
    if args.json:
        print(result.to_json())
    else:
        result.print()
    return 0
