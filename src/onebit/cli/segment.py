"""`onebit segment`: name the class of each pixel of image files, and draw it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, picture_files, streams
from onebit.printable import printable

EXAMPLES = """examples:
  onebit segment streets.onebit photo.jpg                      the share of each class of the pixels
  onebit segment streets.onebit photo.jpg --out overlay.png    the picture with the classes in colours over it
  onebit segment streets.onebit photo.jpg --mask mask.png      the mask: class numbers with a palette, as large as the picture
  onebit segment streets.onebit photos/*.jpg --out drawn       a drawn picture for each, in the folder drawn
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "segment",
        run,
        EXAMPLES,
        help="name the class of each pixel of image files, and draw it",
        description="Print which share of each image file's pixels is of which class, and draw the classes. Pictures of any size are allowed. "
        "PyTorch is not needed. `onebit classify` prints the same, and draws nothing.",
    )
    picture_files.add_arguments(parser)
    text = "write the mask: a .png file, or a folder for several pictures"
    parser.add_argument("--mask", type=arguments.path, metavar="FILE", help=text)


def run(args: argparse.Namespace) -> int:
    from onebit.runtime.pictures import SegmentationSession
    from onebit.scenes.drawing import draw_mask, palette_image

    session = picture_files.session_of(args, SegmentationSession, "segment", "a network for the class of each pixel")
    count = len(session.task.labels)
    results = []
    failed = False
    masks = picture_files.pairs(args.inputs, args.mask)
    for (name, out), (_, mask_out) in zip(picture_files.pairs(args.inputs, args.out), masks, strict=True):
        try:
            mask = session.segment(name)
            if out is not None:
                picture_files.save(draw_mask(picture_files.pixels_of(name), mask, count), out)
            if mask_out is not None:
                picture_files.save(palette_image(mask, count), mask_out)
        except picture_files.FAULTS as error:
            # One bad image does not stop the others: report it and continue.
            streams.say_error(error)
            failed = True
            continue
        shares = session.shares_of(mask)
        results.append({"file": name, **shares.to_dict()})
        if not args.json:
            print(f"{printable(name)}: {shares}")
    if args.json:
        print(json.dumps(results))
    return 1 if failed else 0
