"""`onebit classify`: classify image files."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, streams
from onebit.printable import printable

EXAMPLES = """examples:
  onebit classify pets.onebit photo.jpg
  onebit classify pets.onebit photos/*.jpg --top 1
  onebit classify pets.onebit photos/*.jpg --json | jq -r '.[] | .file + " " + .labels[0].label'
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "classify",
        run,
        EXAMPLES,
        help="classify image files",
        description="Print the most probable labels of each image file. Images of any size are allowed. PyTorch is not needed.",
    )
    parser.add_argument("file", type=arguments.packed_file, metavar="FILE", help="a .onebit file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, BMP, GIF, TIFF")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="print N labels per image (default %(default)s)"
    )
    arguments.precision(parser)
    arguments.threads(parser)
    arguments.as_json(parser, "print one JSON array for all images")


def run(args: argparse.Namespace) -> int:
    from onebit.errors import DataError
    from onebit.runtime import load_image_session

    session = load_image_session(args.file, precision=args.precision, threads=args.threads)
    results = []
    failed = False
    for name in args.images:
        try:
            labels = session.classify([name], args.top)[0]
        except DataError as error:
            # One bad image does not stop the others: report it and continue.
            streams.say_error(error)
            failed = True
            continue
        if args.json:
            results.append({"file": name, "labels": [{"label": label, "probability": p} for label, p in labels]})
        else:
            print(f"{printable(name)}: " + ", ".join(f"{printable(label)} {100 * p:.1f} %" for label, p in labels))
    if args.json:
        print(json.dumps(results))
    return 1 if failed else 0
