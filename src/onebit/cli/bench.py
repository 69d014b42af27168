"""`onebit bench`: measure how fast a packed file runs on this machine."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, progress

EXAMPLES = """examples:
  onebit bench pets.onebit
  onebit bench books.onebit --threads 1 2 4
  onebit bench pets.onebit --precision float32 --isa avx2 --json
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "bench",
        run,
        EXAMPLES,
        help="measure how fast a packed file runs on this machine",
        description=(
            "Load a packed file, run it on random images or tokens for a few seconds, and print medians: milliseconds per image, or per token "
            "and for a prompt. The content of the images or tokens does not change the speed. PyTorch is not needed."
        ),
    )
    arguments.file(parser)
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="numbers of threads to try (default 1, then one per core)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        metavar="S",
        help="time for all measurements together (default %(default)s)",
    )
    arguments.precision(parser)
    parser.add_argument(
        "--isa", metavar="NAME", help="an instruction set that `onebit info --engine` lists (default the best)"
    )
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.speed import bench

    with progress.shown():
        speed = bench(args.file, args.threads, args.precision, args.isa, args.seconds)
    print(json.dumps(speed.to_dict()) if args.json else speed)
    return 0
