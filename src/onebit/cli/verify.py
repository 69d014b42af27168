"""`onebit verify`: does a packed file compute what was trained?"""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments
from onebit.paths import expand

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
        help="compare a packed file with the network it was packed from",
        description=(
            "Run the same test images or texts through PyTorch, the NumPy reference and the engine at both precisions, and report the "
            "largest difference and how often the answer differs. Exits 1 where the float32 engine is not PyTorch's equal: apart by more than 1e-4 "
            "anywhere, or, where a network quantises its layers' inputs, in more than 2 %% of the outputs."
        ),
    )
    arguments.file(parser)
    parser.add_argument("folder", type=expand, metavar="RUN", help="the run folder that it was packed from")
    parser.add_argument(
        "--data", help="other images or another text; default the run's own, which it was not trained on"
    )
    arguments.checkpoint(parser)
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use the first N images, or texts of a whole context, only"
    )
    arguments.threads(parser)
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.verification import verify

    found = verify(
        args.file, args.folder, args.data, checkpoint=args.checkpoint, limit=args.limit, threads=args.threads
    )
    print(json.dumps(found.to_dict()) if args.json else found)
    return 0 if found.equal else 1
