"""`onebit reproduce`: train a table of the paper at any scale, next to the paper's figures."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from onebit.cli import arguments
from onebit.cli.recipe_keys import parse_keys
from onebit.printable import printable, printable_text

EXAMPLES = """examples:
  onebit reproduce table2 --scale 0.05 --data pictures         Food-101's four networks, small, on your own images
  onebit reproduce table5 --scale 0.02 --data book.txt         WikiText-103's three networks, small, on your own text
  onebit reproduce table5 --vocabulary vocab.txt               the paper's size and data, with BERT's vocabulary
  onebit reproduce table2 --scale 0.05 --data pictures --recipes best --resume
                                                               adds rows: the same shapes with our best settings

A scale F below 1 multiplies the networks' lengths by the square root of F and the amounts by F: see docs/reproduce.md.
Every key of a recipe is also a flag, and applies to all rows: --epochs 5 --image-size 32.
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "reproduce",
        run,
        EXAMPLES,
        help="train a table of the paper at any scale, next to the paper's figures",
        description="Train, pack and measure the networks of the paper's table 2 (images) or 5 (text), and print them next to the paper's figures.",
    )
    parser.add_argument("table", metavar="table2|table5", help="the table to reproduce")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="above 0, at most 1 (default 1: the paper)"
    )
    parser.add_argument("--data", metavar="PATH", help="a folder of images, or a text (default the paper's data)")
    parser.add_argument("--out", type=arguments.path, metavar="DIR", help="the output folder (default runs/TABLE)")
    parser.add_argument("--resume", action="store_true", help="skip finished rows in DIR, continue an unfinished one")
    parser.add_argument("--rows", metavar="NAME,...", help="train only these rows, by the names of their run folders")
    parser.add_argument(
        "--recipes", choices=("paper", "best"), default="paper", help="best adds rows with our best settings"
    )
    parser.add_argument("--paper-rate", action="store_true", help="use the paper's learning rates at any scale")
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default one per core)")
    parser.add_argument("--quiet", action="store_true", help="do not show progress")
    parser.set_defaults(takes_recipe_keys=True)


def run(args: argparse.Namespace) -> int:
    from onebit.reproduction import Settings, reproduce

    keys = parse_keys(args.recipe_keys, "reproduce")
    settings = Settings(args.table, args.scale, args.data, args.paper_rate, keys)
    out = args.out or Path("runs") / args.table
    rows = None if args.rows is None else [name for name in args.rows.split(",") if name]
    try:
        report = reproduce(settings, out, args.recipes, rows, args.resume, args.threads, not args.quiet)
    except KeyboardInterrupt:
        print(f"\nonebit: interrupted; continue with: {printable(_again(args, out))}", file=sys.stderr)
        return 130
    print(printable_text(str(report)))
    print(f"\n{printable(out / args.table)}.md, .json and .png hold it. Each row is a run folder in {printable(out)}")
    return 0


def _again(args: argparse.Namespace, out: Path) -> str:
    """The same command, with --resume."""
    words = ["onebit", "reproduce", args.table, "--scale", str(args.scale), "--out", str(out)]
    for name in ("data", "rows", "threads"):
        value = getattr(args, name)
        words += [] if value is None else [f"--{name}", str(value)]
    words += ["--recipes", args.recipes] if args.recipes != "paper" else []
    words += ["--paper-rate"] if args.paper_rate else []
    return shlex.join([*words, *args.recipe_keys, "--resume"])
