"""`onebit verify`: check that a packed or imported file gives the outputs of the network that it was made from."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, progress

EXAMPLES = """examples:
  onebit verify runs/images.onebit runs/images
  onebit verify runs/images.onebit runs/images --limit 500 --json
  onebit verify bonsai.onebit Bonsai-1.7B-Q1_0.gguf       an imported model and its GGUF file, in llama.cpp
  onebit verify my_model.onebit my_model/                 an imported model and its folder, in transformers
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "verify",
        run,
        EXAMPLES,
        help="check that a file gives the outputs of the network that it was made from",
        description=(
            "Run the same test images or texts in PyTorch, in the NumPy reference and in the engine at both precisions. Print the largest difference "
            "and how often the answer differs. Exit with 1 if the float32 engine differs from PyTorch by more than 1e-4 anywhere; if the network "
            "quantises its activations, in more than 2 % of the outputs. For an imported language model, compare the logits of a text with those "
            "of its source in transformers or in llama.cpp (pip install llama-cpp-python); exit with 1 if they differ by more than --tolerance."
        ),
    )
    arguments.file(parser)
    text = "the run folder that FILE was packed from, or the GGUF file, folder or OWNER/NAME that it was imported from"
    parser.add_argument("source", type=arguments.path, metavar="SOURCE", help=text)
    parser.add_argument("--data", help="other images or another text (default the run's own test data)")
    arguments.checkpoint(parser)
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="use only the first N images, the first N texts of full context length, or the first N tokens for an imported model",
    )
    text = "the largest relative difference of an imported model's logits (default %(default)s)"
    parser.add_argument("--tolerance", type=float, default=0.2, metavar="X", help=text)
    arguments.threads(parser)
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.source_comparison import is_foreign

    if is_foreign(args.file, args.source):
        return _against_source(args)
    from onebit.verification import verify

    with progress.shown():
        found = verify(
            args.file, args.source, args.data, checkpoint=args.checkpoint, limit=args.limit, threads=args.threads
        )
    print(json.dumps(found.to_dict()) if args.json else found)
    return 0 if found.equal else 1


def _against_source(args: argparse.Namespace) -> int:
    from onebit.paths import expand
    from onebit.source_comparison import compare_with_source

    text = None if args.data is None else expand(args.data).read_text("utf-8", "replace")
    found = compare_with_source(
        args.file, args.source, text, limit=args.limit, threads=args.threads, tolerance=args.tolerance
    )
    print(json.dumps(found.to_dict()) if args.json else found)
    return 0 if found.same else 1
