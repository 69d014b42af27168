"""`onebit score`: scores of many images or texts, through Ray Data, into a folder of Parquet files."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any

from onebit.cli import arguments, streams
from onebit.cli.progress import only_ours, progress_line
from onebit.paths import expand

EXAMPLES = """examples:
  onebit score pets.onebit photos --out scores                         a folder of images, in folders of any depth
  onebit score pets.onebit photos.parquet --out scores --top 3 --keep caption
  onebit score books.onebit texts --out scores                         each file of a folder of text
  onebit score books.onebit book.txt --lines --out scores --workers 2  each line of a file
  onebit score pets.onebit s3-mirror --out scores --address auto       on the Ray cluster that runs on this machine

A run that was stopped goes on where it was with the same command. Needs: pip install "onebit[scale]"
"""


# Options that `onebit.score` has by the same names.
PASSED_ON = ("lines", "column", "keep", "top", "logits", "precision", "workers", "threads", "address", "overwrite")


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "score",
        run,
        EXAMPLES,
        help="scores of many images or texts, into Parquet files",
        description=(
            "Classify images, or judge texts, of a folder, of text files or of Parquet files, with several workers through Ray Data, and write the "
            "results into a folder of Parquet files. Records that cannot be scored are listed there with the reason. Needs no PyTorch."
        ),
    )
    arguments.file(parser)
    parser.add_argument("data", nargs="+", type=expand, metavar="DATA", help="folders and files: images, text, Parquet")
    parser.add_argument("--out", type=expand, required=True, metavar="DIR", help="the folder for the Parquet files")
    parser.add_argument("--lines", action="store_true", help="each line of a text file is a record, not each file")
    parser.add_argument("--column", metavar="NAME", help="of Parquet files, what is scored (default by name and type)")
    parser.add_argument("--keep", nargs="+", default=[], metavar="NAME", help="columns to carry to the output")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="labels for each image (default %(default)s)")
    parser.add_argument("--logits", action="store_true", help="write the logits of images too")
    arguments.precision(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default one for each processor)")
    arguments.threads(parser, "of each (default the processors, divided)")
    text = "a Ray cluster to join, or auto (default RAY_ADDRESS, else a local one)"
    parser.add_argument("--address", metavar="HOST:PORT", help=text)
    text = "records of an output file (default by how many there are)"
    parser.add_argument("--part", type=int, metavar="N", help=text)
    parser.add_argument("--overwrite", action="store_true", help="remove the scores that are in DIR and begin anew")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a record failed")
    parser.add_argument("--ray-log", action="store_true", help="show what Ray says")
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.scoring import score

    with contextlib.nullcontext(sys.stderr) if args.ray_log else only_ours() as terminal:
        summary = score(
            args.file,
            args.data,
            args.out,
            **{name: getattr(args, name) for name in PASSED_ON},
            part_records=args.part,
            progress=progress_line(terminal) if terminal.isatty() and not args.json else None,
        )
    streams.say_notes(summary.notes)
    print(json.dumps(summary.to_dict()) if args.json else summary)
    return 1 if args.strict and summary.failed else 0
