"""`onebit detect`: find objects in image files, and draw boxes around them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, picture_files, streams
from onebit.printable import printable

EXAMPLES = """examples:
  onebit detect cells.onebit smear.jpg                         what was found, with the sides of each box in pixels
  onebit detect cells.onebit smear.jpg --out boxes.png         the picture with the boxes drawn into it
  onebit detect cells.onebit smears/*.jpg --out drawn          a drawn picture for each, in the folder drawn
  onebit detect cells.onebit smears/*.jpg --threshold 0.6 --json
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "detect",
        run,
        EXAMPLES,
        help="find objects in image files, and draw boxes around them",
        description="Print the objects that a packed detector finds in each image file: label, score, and the sides of its box in pixels of the "
        "picture. Pictures of any size are allowed. PyTorch is not needed. `onebit classify` prints the same, and draws nothing.",
    )
    picture_files.add_arguments(parser)
    text = "the least score of a box, 0 to 1 (default %(default)s)"
    parser.add_argument("--threshold", type=float, default=0.3, metavar="SCORE", help=text)


def run(args: argparse.Namespace) -> int:
    from onebit.runtime.pictures import DetectionSession, FoundBoxes
    from onebit.scenes.drawing import draw_boxes

    session = picture_files.session_of(args, DetectionSession, "detect", "a detector")
    results = []
    failed = False
    for name, out in picture_files.pairs(args.inputs, args.out):
        try:
            boxes = session.detect(name, args.threshold)
            if out is not None:
                picture_files.save(draw_boxes(picture_files.pixels_of(name), boxes, session.task.labels), out)
        except picture_files.FAULTS as error:
            # One bad image does not stop the others: report it and continue.
            streams.say_error(error)
            failed = True
            continue
        found = FoundBoxes(tuple(boxes))
        results.append({"file": name, **found.to_dict()})
        if not args.json:
            print(f"{printable(name)}: {found}")
    if args.json:
        print(json.dumps(results))
    return 1 if failed else 0
