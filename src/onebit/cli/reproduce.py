"""`onebit reproduce`: a table of the paper at any scale, next to the paper's figures."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from onebit.cli import arguments
from onebit.cli.recipe_keys import parse_keys
from onebit.paths import expand
from onebit.printable import printable, printable_text

EXAMPLES = """examples:
  onebit reproduce table2 --scale 0.05 --data pictures         Food-101's four networks, small, on own images
  onebit reproduce table5 --scale 0.02 --data book.txt         WikiText-103's three networks, small, on own text
  onebit reproduce table5 --vocabulary vocab.txt               the paper's size and data, with BERT's vocabulary
  onebit reproduce table2 --scale 0.05 --data pictures --recipes best --resume
                                                               further rows: the same shapes with our best settings

At a scale F below 1 lengths of the networks shrink by the square root of F and amounts by F; docs/reproduce.md says how.
Every key of a recipe is a flag and then holds for all rows, as in --epochs 5 --image-size 32.
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "reproduce",
        run,
        EXAMPLES,
        help="run a table of the paper at any scale, next to the paper's figures",
        description="Train, pack and measure the networks of the paper's table 2 (images) or 5 (text), and print them next to the paper's figures.",
    )
    parser.add_argument("table", metavar="table2|table5", help="which")
    parser.add_argument("--scale", type=float, default=1.0, metavar="F", help="above 0, at most 1, the paper (default)")
    parser.add_argument("--data", metavar="PATH", help="a folder of images, or a text; default the paper's, by name")
    parser.add_argument("--out", type=expand, metavar="DIR", help="the folder of all rows (default runs/TABLE)")
    parser.add_argument(
        "--resume", action="store_true", help="skip finished rows of DIR, go on with an interrupted one"
    )
    parser.add_argument("--rows", metavar="NAME,...", help="some rows only, by the names of their run folders")
    parser.add_argument(
        "--recipes", choices=("paper", "best"), default="paper", help="best: our best settings as further rows"
    )
    parser.add_argument("--paper-rate", action="store_true", help="the paper's learning rates at any scale")
    parser.add_argument("--threads", type=int, help="of PyTorch (default one for each core)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
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
        print(f"\nonebit: interrupted; go on with: {printable(_again(args, out))}", file=sys.stderr)
        return 130
    print(printable_text(str(report)))
    print(f"\n{printable(out / args.table)}.md, .json and .png hold it; each row is a run folder in {printable(out)}")
    return 0


def _again(args: argparse.Namespace, out: Path) -> str:
    """The same command with --resume."""
    words = ["onebit", "reproduce", args.table, "--scale", str(args.scale), "--out", str(out)]
    for name in ("data", "rows", "threads"):
        value = getattr(args, name)
        words += [] if value is None else [f"--{name}", str(value)]
    words += ["--recipes", args.recipes] if args.recipes != "paper" else []
    words += ["--paper-rate"] if args.paper_rate else []
    return shlex.join([*words, *args.recipe_keys, "--resume"])
