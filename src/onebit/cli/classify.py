"""`onebit classify`: what a packed model says of files."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, streams
from onebit.printable import printable

EXAMPLES = """examples:
  onebit classify pets.onebit photo.jpg
  onebit classify pets.onebit photos/*.jpg --top 1
  onebit classify keywords.onebit yes.wav
  onebit classify pets.onebit photos/*.jpg --json | jq -r '.[] | .file + " " + .labels[0].label'
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "classify",
        run,
        EXAMPLES,
        help="print what a model says of files",
        description="Print what a packed model says of each file: the most probable labels of an image or a recording. Images of any size are "
        "allowed. PyTorch is not needed.",
    )
    parser.add_argument("file", type=arguments.packed_file, metavar="FILE", help="a .onebit file")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="files of what the model takes: JPEG, PNG, WebP, BMP, GIF, TIFF; WAV"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="print N labels per file (default %(default)s)")
    arguments.precision(parser)
    arguments.threads(parser)
    arguments.as_json(parser, "print one JSON array for all files")


def run(args: argparse.Namespace) -> int:
    from onebit.errors import DataError
    from onebit.runtime import load

    session = load(args.file, precision=args.precision, threads=args.threads)
    results = []
    failed = False
    for name in args.inputs:
        try:
            answer = session.answer(name, args.top)
        except DataError as error:
            # One bad image does not stop the others: report it and continue.
            streams.say_error(error)
            failed = True
            continue
        if args.json:
            results.append({"file": name, **answer.to_dict()})
        else:
            print(f"{printable(name)}: {answer}")
    if args.json:
        print(json.dumps(results))
    return 1 if failed else 0
