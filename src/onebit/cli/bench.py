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
  onebit bench pets.onebit --protocol --data pets/ --twin float.onebit   latency, accuracy, memory and energy, side by side
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
        metavar="S",
        help="time for all measurements together (default 4); with --protocol for each engine (default 10)",
    )
    arguments.precision(parser)
    parser.add_argument(
        "--isa", metavar="NAME", help="an instruction set that `onebit info --engine` lists (default the best)"
    )
    text = "after MLPerf Tiny's rules: a single stream of 10 s and 1,000 runs, accuracy, memory and energy; --threads takes one number"
    parser.add_argument("--protocol", action="store_true", help=text)
    parser.add_argument("--data", help="for --protocol: the images, of which the test part is measured")
    parser.add_argument(
        "--twin", type=arguments.packed_file, metavar="FILE", help="for --protocol: the packed float twin"
    )
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.protocol:
        return _protocol(args)
    from onebit.speed import bench

    with progress.shown():
        speed = bench(args.file, args.threads, args.precision, args.isa, 4.0 if args.seconds is None else args.seconds)
    print(json.dumps(speed.to_dict()) if args.json else speed)
    return 0


def _protocol(args: argparse.Namespace) -> int:
    from onebit.errors import OnebitError
    from onebit.protocol import protocol

    if args.data is None or len(args.threads or [1]) > 1:
        raise OnebitError("[bench] --protocol needs --data, the images to measure, and one number of --threads")
    threads = args.threads[0] if args.threads else 1
    report = protocol(args.file, args.data, twin=args.twin, threads=threads, seconds=args.seconds or 10.0)
    print(json.dumps(report.to_dict()) if args.json else report)
    return 0
