"""`onebit plot`: draw schemes and training runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from onebit.cli import arguments
from onebit.paths import expand
from onebit.printable import printable

EXAMPLES = """examples:
  onebit plot scheme XnorNet                       XnorNet.png: the quantizers and their gradients
  onebit plot scheme "DoReFa(weights=2)" --out dorefa.svg
  onebit plot scheme all                           schemes.png: all schemes side by side
  onebit plot run runs/digits                      runs/digits/curves.png: loss, accuracy and statistics of each layer
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "plot",
        run,
        EXAMPLES,
        help="draw a scheme's quantizers, or how a training run went",
        description="Draw a scheme's quantizers with their straight-through gradients, or the curves and the layers of a training run.",
    )
    parser.add_argument("what", choices=("scheme", "run"), metavar="scheme|run", help="what to draw")
    parser.add_argument("name", metavar="NAME", help="a scheme as recipes write it, all, or a run folder")
    parser.add_argument("--out", type=expand, metavar="FILE", help="the .png, .pdf or .svg file to write")


def run(args: argparse.Namespace) -> int:
    from onebit.errors import OnebitError
    from onebit.plots import gallery_figure, run_figure, save, scheme_figure
    from onebit.schemes import parse_scheme

    if args.what == "run":
        figure, out = run_figure(args.name), expand(args.name) / "curves.png"
    elif args.name == "all":
        figure, out = gallery_figure(), Path("schemes.png")
    else:
        try:
            scheme = parse_scheme(args.name)
        except ValueError as error:
            raise OnebitError(f"[plot] {error}, or all") from None
        figure, out = scheme_figure(scheme), Path(f"{type(scheme).__name__}.png")
    save(figure, args.out or out)
    print(printable(args.out or out))
    return 0
