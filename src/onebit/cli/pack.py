"""`onebit pack`: pack the network of a run folder into a `.onebit` file."""

from __future__ import annotations

import argparse
from typing import Any

from onebit.cli import arguments

EXAMPLES = """examples:
  onebit pack runs/images                          writes runs/images.onebit
  onebit pack runs/images --out pets.onebit
  onebit pack runs/images --checkpoint last        the network of the last epoch instead of the best
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "pack",
        run,
        EXAMPLES,
        help="pack a trained network into a .onebit file",
        description="Pack a trained network: drop the latent weights, keep one bit per parameter, and print how large each layer is now.",
    )
    parser.add_argument("folder", type=arguments.path, metavar="RUN", help="a run folder that 'onebit train' wrote")
    parser.add_argument("--out", type=arguments.path, metavar="FILE", help="the file to write (default RUN.onebit)")
    arguments.checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.packing import pack
    from onebit.training import load_run

    trained = load_run(args.folder, args.checkpoint)
    out = args.out or args.folder.with_name(args.folder.resolve().name + ".onebit")
    print(pack(trained.model, out, trained.task, trained.training))
    return 0
