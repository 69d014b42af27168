"""`onebit plot`: draw schemes, training runs and packed files."""

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
  onebit plot model books                          books-31m.png: the layers of a packed file, their bytes and their times
  onebit plot model pets.onebit --threads 2 --out pets.svg
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "plot",
        run,
        EXAMPLES,
        help="draw a scheme's quantizers, how a training run went, or the layers of a packed file",
        description="Draw a scheme's quantizers with their straight-through gradients, the curves and the layers of a training run, or the "
        "layers of a packed file with their bytes and their measured time.",
    )
    parser.add_argument("what", choices=("scheme", "run", "model"), metavar="scheme|run|model", help="what to draw")
    parser.add_argument(
        "name", metavar="NAME", help="a scheme as recipes write it, or all; a run folder; or a .onebit file, or books"
    )
    parser.add_argument("--out", type=arguments.path, metavar="FILE", help="the .png, .pdf or .svg file to write")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="for model: threads of the engine (default %(default)s)"
    )
    arguments.precision(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.figures import check_name, save

    if args.out is not None:
        check_name(args.out)  # before a model is measured
    figure, out = {"scheme": _scheme, "run": _run, "model": _model}[args.what](args)
    save(figure, args.out or out)
    print(printable(args.out or out))
    return 0


def _scheme(args: argparse.Namespace) -> tuple[Any, Path]:
    from onebit.errors import OnebitError
    from onebit.plots import gallery_figure, scheme_figure
    from onebit.schemes import parse_scheme

    if args.name == "all":
        return gallery_figure(), Path("schemes.png")
    try:
        scheme = parse_scheme(args.name)
    except ValueError as error:
        raise OnebitError(f"[plot] {error}, or all") from None
    return scheme_figure(scheme), Path(f"{type(scheme).__name__}.png")


def _run(args: argparse.Namespace) -> tuple[Any, Path]:
    from onebit.plots import run_figure

    return run_figure(args.name), expand(args.name) / "curves.png"


def _model(args: argparse.Namespace) -> tuple[Any, Path]:
    from onebit.model_plot import draw_model
    from onebit.pretrained import find

    return draw_model(args.name, args.threads, args.precision), Path(find(args.name).with_suffix(".png").name)
