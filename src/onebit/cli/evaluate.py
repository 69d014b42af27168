"""`onebit evaluate`: measure the accuracy and loss of a run folder or of a packed file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, progress, streams

EXAMPLES = """examples:
  onebit evaluate runs/images                                      the trained network in PyTorch, on its own test images
  onebit evaluate runs/images.onebit --data my_pictures            the packed file in the engine
  onebit evaluate runs/images.onebit --data my_pictures --precision float32
  onebit evaluate runs/adaptive.onebit --data digits --confidence 0.9
  onebit evaluate runs/mini                                        a language model, on its held-out text
  onebit evaluate runs/mini.onebit --data other_books.txt          the packed language model, on another text
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "evaluate",
        run,
        EXAMPLES,
        help="measure accuracy and loss of a trained network or a packed file",
        description=(
            "Measure a run folder in PyTorch, or a packed file in the engine. Print accuracy and loss on test images, or perplexity, accuracy "
            "and bits per byte on text."
        ),
    )
    parser.add_argument(
        "model", type=arguments.packed_file, metavar="RUN_OR_FILE", help="a run folder or a .onebit file"
    )
    parser.add_argument(
        "--data",
        help="a folder of images, a text file or folder, or the name of a data set (default the run's own test data)",
    )
    text = "of a packed file with exits or planes: spend no more on an image once its answer has this probability"
    parser.add_argument("--confidence", type=float, metavar="P", help=text)
    arguments.precision(parser)
    arguments.cache(parser)
    arguments.threads(parser)
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.evaluation import evaluate

    with progress.shown():
        figures = evaluate(
            args.model,
            args.data,
            precision=args.precision,
            cache=args.cache,
            threads=args.threads,
            confidence=args.confidence,
        )
    streams.say_notes(figures.notes)
    print(json.dumps(figures.to_dict()) if args.json else figures)
    return 0
