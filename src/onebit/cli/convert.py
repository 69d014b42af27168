"""`onebit convert`: make bits of the weights of a language model, by distillation from itself."""

from __future__ import annotations

import argparse
import json
from inspect import signature
from typing import Any

from onebit.cli import arguments, training_flags

EXAMPLES = """examples:
  onebit convert my_model/ --data books.txt --out small.onebit     ternary weights, a scale for each 64 or 128 inputs
  onebit convert model.gguf --data books.txt --scheme bits         one bit for each weight
  onebit convert masters/ --data notes.txt --scheme bitnet         go on with the training of a ternary model
  onebit convert my_model/ --data books.txt --steps 0              round and train block by block only
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "convert",
        run,
        EXAMPLES,
        help="make bits of the weights of a language model, by distillation from itself",
        description=(
            "Turn a language model of floats into one of few bits. Blocks are rounded and trained one after another; then the whole network learns "
            "from the logits of the float one. Writes a .onebit file and prints the perplexity after each stage. Ctrl-C ends it; --resume goes on."
        ),
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a GGUF file, a folder of safetensors, or OWNER/NAME on the Hub"
    )
    parser.add_argument("--data", required=True, metavar="TEXT", help="a text file, a folder of them, or wikitext-2")
    parser.add_argument("--validation-data", metavar="TEXT", help="the text to measure on (default a part of --data)")
    text = "how many tokens are measured (default %(default)s)"
    parser.add_argument("--validation-tokens", type=int, default=8192, metavar="N", help=text)
    parser.add_argument(
        "--out", type=arguments.path, metavar="FILE", help="the file to write (default SOURCE.onebit here)"
    )
    parser.add_argument(
        "--scheme",
        choices=("ternary", "bits", "bitnet"),
        help="ternary and bits have a scale for each group of inputs; bitnet has one for a matrix, and inputs of 8 bits (default ternary; bitnet "
        "for float masters)",
    )
    parser.add_argument(
        "--group", type=int, choices=(32, 64, 128), help="inputs that share a scale (default the largest that fits)"
    )
    text = "add a norm before the last layer of each branch; of Llamas"
    parser.add_argument("--sub-norm", action="store_true", help=text)
    parser.add_argument("--context", type=int, metavar="N", help="the most tokens of a text (default the model's)")
    training_flags.add(parser)
    arguments.threads(parser, "threads of PyTorch (default one per core)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted conversion to the same file")
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.cli.progress import shown
    from onebit.distilling import distill

    options = {name: value for name, value in vars(args).items() if name in signature(distill).parameters}
    with shown():
        report = distill(**options, training=training_flags.chosen(args))
    print(json.dumps(report.to_dict()) if args.json else report)
    return 0
