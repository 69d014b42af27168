"""`onebit score`: scores of many images or texts, through Ray Data, into a folder of Parquet files."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any

from onebit.cli import streams
from onebit.cli.progress import only_ours, progress_line
from onebit.paths import expand
from onebit.pretrained import find

EXAMPLES = """examples:
  onebit score pets.onebit photos --out scores                         a folder of images, in folders of any depth
  onebit score pets.onebit photos.parquet --out scores --top 3 --keep caption
  onebit score books.onebit texts --out scores                         each file of a folder of text
  onebit score books.onebit book.txt --lines --out scores --workers 2  each line of a file
  onebit score pets.onebit s3-mirror --out scores --address auto       on the Ray cluster that runs on this machine

A run that was stopped goes on where it was with the same command. Needs: pip install "onebit[scale]"
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "score",
        help="scores of many images or texts, into Parquet files",
        description=(
            "Classify images, or judge texts, of a folder, of text files or of Parquet files, with several workers through Ray Data, and write the "
            "results into a folder of Parquet files. Records that cannot be scored are listed there with the reason. Needs no PyTorch."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", type=find, metavar="FILE", help="a .onebit file, or the name of one that comes with onebit: books"
    )
    parser.add_argument("data", nargs="+", type=expand, metavar="DATA", help="folders and files: images, text, Parquet")
    parser.add_argument("--out", type=expand, required=True, metavar="DIR", help="the folder for the Parquet files")
    parser.add_argument("--lines", action="store_true", help="each line of a text file is a record, not each file")
    parser.add_argument("--column", metavar="NAME", help="of Parquet files, what is scored (default by name and type)")
    parser.add_argument("--keep", nargs="+", default=[], metavar="NAME", help="columns to carry to the output")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="labels for each image (default %(default)s)")
    parser.add_argument("--logits", action="store_true", help="write the logits of images too")
    parser.add_argument("--precision", choices=("int8", "float32"), default="int8", help="default %(default)s")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default one for each processor)")
    parser.add_argument("--threads", type=int, metavar="N", help="of each (default the processors, divided)")
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="a Ray cluster to join, or auto (default RAY_ADDRESS, else a local one)"
    )
    parser.add_argument(
        "--part", type=int, metavar="N", help="records of an output file (default by how many there are)"
    )
    parser.add_argument("--overwrite", action="store_true", help="remove the scores that are in DIR and begin anew")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a record failed")
    parser.add_argument("--ray-log", action="store_true", help="show what Ray says")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from onebit.scoring import score

    with contextlib.nullcontext(sys.stderr) if args.ray_log else only_ours() as terminal:
        summary = score(
            args.file,
            args.data,
            args.out,
            lines=args.lines,
            column=args.column,
            keep=args.keep,
            top=args.top,
            logits=args.logits,
            precision=args.precision,
            workers=args.workers,
            threads=args.threads,
            address=args.address,
            part_records=args.part,
            overwrite=args.overwrite,
            progress=progress_line(terminal) if terminal.isatty() and not args.json else None,
        )
    streams.say_notes(summary.notes)
    print(json.dumps(summary.to_dict()) if args.json else summary)
    return 1 if args.strict and summary.failed else 0
