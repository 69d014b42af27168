"""`onebit score`: score many images or texts with Ray Data, into a folder of Parquet files."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, streams
from onebit.cli.progress import listener
from onebit.progress import Progress

EXAMPLES = """examples:
  onebit score pets.onebit photos --out scores                         a folder of images, with all its subfolders
  onebit score pets.onebit photos.parquet --out scores --top 3 --keep caption
  onebit score books.onebit texts --out scores                         each file of a folder of text
  onebit score books.onebit book.txt --lines --out scores --workers 2  each line of a file
  onebit score pets.onebit s3-mirror --out scores --address auto       on the Ray cluster that runs on this machine

The same command continues a run that was stopped. Install Ray first: pip install "onebit[scale]"
"""


# Options with the same names in `onebit.score`.
PASSED_ON = ("lines", "column", "keep", "top", "logits", "precision", "workers", "threads", "address", "overwrite")


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "score",
        run,
        EXAMPLES,
        help="score many images or texts, into Parquet files",
        description=(
            "Classify images or score texts with several Ray Data workers, and write the results into a folder of Parquet files. The input is a "
            "folder, text files or Parquet files. Records that fail are listed in DIR, with the reason. PyTorch is not needed."
        ),
    )
    arguments.file(parser)
    text = "folders and files: images, text, Parquet"
    parser.add_argument("data", nargs="+", type=arguments.path, metavar="DATA", help=text)
    text = "the folder for the Parquet files"
    parser.add_argument("--out", type=arguments.path, required=True, metavar="DIR", help=text)
    parser.add_argument("--lines", action="store_true", help="each line of a text file is a record (default each file)")
    parser.add_argument("--column", metavar="NAME", help="the Parquet column to score (default by name and type)")
    parser.add_argument("--keep", nargs="+", default=[], metavar="NAME", help="columns to copy to the output")
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="write N labels per image (default %(default)s)"
    )
    parser.add_argument("--logits", action="store_true", help="also write the logits of images")
    arguments.precision(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default one per processor)")
    arguments.threads(parser, "threads per worker (default the processors, divided among the workers)")
    text = "the Ray cluster to join, or auto (default RAY_ADDRESS, else a local one)"
    parser.add_argument("--address", metavar="HOST:PORT", help=text)
    text = "records per output file (default by the number of records)"
    parser.add_argument("--part", type=int, metavar="N", help=text)
    parser.add_argument("--overwrite", action="store_true", help="remove the scores in DIR and start again")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a record failed")
    parser.add_argument("--ray-log", action="store_true", help="show Ray's log")
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.scoring import score

    with listener(discard=not args.ray_log) as show:
        summary = score(
            args.file,
            args.data,
            args.out,
            **{name: getattr(args, name) for name in PASSED_ON},
            part_records=args.part,
            progress=lambda done, records, rate: show(Progress("score", done, records, f"records, {rate:,.0f}/s")),
        )
    streams.say_notes(summary.notes)
    print(json.dumps(summary.to_dict()) if args.json else summary)
    return 1 if args.strict and summary.failed else 0
