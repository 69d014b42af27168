"""`onebit verify`: check that a packed file gives the outputs of the trained network."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, progress

EXAMPLES = """examples:
  onebit verify runs/images.onebit runs/images
  onebit verify runs/images.onebit runs/images --limit 500 --json
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "verify",
        run,
        EXAMPLES,
        help="check that a packed file gives the outputs of the trained network",
        description=(
            "Run the same test images or texts in PyTorch, in the NumPy reference and in the engine at both precisions. Print the largest difference "
            "and how often the answer differs. Exit with 1 if the float32 engine differs from PyTorch by more than 1e-4 anywhere; if the network "
            "quantises its activations, in more than 2 % of the outputs."
        ),
    )
    arguments.file(parser)
    parser.add_argument("folder", type=arguments.path, metavar="RUN", help="the run folder that FILE was packed from")
    parser.add_argument("--data", help="other images or another text (default the run's own test data)")
    arguments.checkpoint(parser)
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="use only the first N images, or the first N texts of full context length",
    )
    arguments.threads(parser)
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.verification import verify

    with progress.shown():
        found = verify(
            args.file, args.folder, args.data, checkpoint=args.checkpoint, limit=args.limit, threads=args.threads
        )
    print(json.dumps(found.to_dict()) if args.json else found)
    return 0 if found.equal else 1
