"""`onebit demo`: train, pack and run a network on handwritten digits, or on text."""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from onebit.cli import arguments
from onebit.demos import DEMOS
from onebit.printable import printable

EXAMPLES = """examples:
  onebit demo
  onebit demo --out my_demo --epochs 5
  onebit demo text                          a 1-bit language model, about three minutes
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "demo",
        run,
        EXAMPLES,
        help="train, pack and run a 1-bit network on handwritten digits, or on text",
        description=(
            "Train a 1-bit network and its float twin on scikit-learn's handwritten digits; then pack, verify and run it, and print one table "
            "and one picture. 'onebit demo text' does the same for text, on Python's own documentation and sources, and prints a sample."
        ),
    )
    parser.add_argument(
        "what", nargs="?", choices=tuple(DEMOS), default="images", help="what to train on (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=arguments.path,
        metavar="DIR",
        help="output folder (default onebit-demo, or onebit-demo-text and so on); replaces an earlier demo",
    )
    parser.add_argument("--epochs", type=int, help="training epochs of both networks (default as in the recipe)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    from onebit.training.lock import hold

    demo = import_module(f"onebit.demos.{DEMOS[args.what]}")
    out = args.out or Path("onebit-demo" if args.what == "images" else f"onebit-demo-{args.what}")
    with hold(out, "demo"):
        for line in demo.demonstrate(out, args.epochs, args.seed):
            print(line, flush=True)
    command, file = printable(_command_name()), printable(out / demo.FILE)
    print(f"Next:\n  {command} info {file}")
    for line in demo.next_steps(command, file, printable(out / "samples")):
        print(f"  {line}")
    return 0


def _command_name() -> str:
    """How to call the command again: by its path if it is in a virtual environment that is not active."""
    return "onebit" if shutil.which("onebit") or sys.argv[0].endswith("__main__.py") else sys.argv[0]
