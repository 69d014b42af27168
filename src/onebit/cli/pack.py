"""`onebit pack`: a run folder to a `.onebit` file."""

from __future__ import annotations

import argparse
from typing import Any

from onebit.cli import arguments
from onebit.paths import expand

EXAMPLES = """examples:
  onebit pack runs/images                          writes runs/images.onebit
  onebit pack runs/images --out pets.onebit
  onebit pack runs/images --checkpoint last        the last epoch's network rather than the best
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "pack",
        run,
        EXAMPLES,
        help="pack a trained network into a .onebit file",
        description="Pack a trained network: latents dropped, one bit a parameter; prints what became of every byte.",
    )
    parser.add_argument("folder", type=expand, metavar="RUN", help="a run folder that 'onebit train' made")
    parser.add_argument("--out", type=expand, metavar="FILE", help="default RUN.onebit")
    arguments.checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.packing import pack
    from onebit.training import load_run

    trained = load_run(args.folder, args.checkpoint)
    out = args.out or args.folder.with_name(args.folder.resolve().name + ".onebit")
    print(pack(trained.model, out, trained.task, trained.training))
    return 0
