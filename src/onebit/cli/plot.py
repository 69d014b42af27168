"""`onebit plot`: draw schemes, training runs and packed files."""

from __future__ import annotations

import argparse
from typing import Any

from onebit.cli import arguments
from onebit.drawings import DRAWINGS
from onebit.printable import printable

EXAMPLES = """examples:
  onebit plot scheme XnorNet                       XnorNet.png: the quantizers and their gradients
  onebit plot scheme "DoReFa(weights=2)" --out dorefa.svg
  onebit plot scheme all                           schemes.png: all schemes side by side
  onebit plot run runs/digits                      runs/digits/curves.png: loss, accuracy and statistics of each layer
  onebit plot model books                          books-31m.png: the layers of a packed file, their bytes and their times
  onebit plot model pets.onebit --threads 2 --out pets.svg
  onebit plot predictions runs/keywords my_words   keywords-predictions.png: a few inputs, and what the network says of them
  onebit plot adaptive pets.onebit my_pictures     pets-adaptive.png: accuracy over products, of a network with exits or planes
  onebit plot reliability runs/pets                pets-reliability.png: how often answers of each confidence are right
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
    parser.add_argument("what", choices=tuple(DRAWINGS), metavar="|".join(DRAWINGS), help="what to draw")
    parser.add_argument(
        "name", metavar="NAME", help="a scheme as recipes write it, or all; a run folder; or a .onebit file, or books"
    )
    parser.add_argument(
        "inputs",
        nargs="?",
        metavar="DATA",
        help="for predictions and adaptive: a file, a folder or a data set; default what the run set aside",
    )
    parser.add_argument("--out", type=arguments.path, metavar="FILE", help="the .png, .pdf or .svg file to write")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="for model: threads of the engine (default %(default)s)"
    )
    parser.add_argument(
        "--data", help="for reliability: the images; default what the run was trained on, its test part"
    )
    arguments.precision(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.figures import check_name, save

    if args.out is not None:
        check_name(args.out)  # before a model is measured
    figure, out = DRAWINGS[args.what](
        args.name, data=args.inputs or args.data, threads=args.threads, precision=args.precision
    )
    save(figure, args.out or out)
    print(printable(args.out or out))
    return 0
