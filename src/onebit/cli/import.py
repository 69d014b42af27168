"""`onebit import`: make a `.onebit` file of a language model of another program."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments

EXAMPLES = """examples:
  onebit import Bonsai-1.7B-Q1_0.gguf --out bonsai.onebit   a GGUF file; of a split one, any part
  onebit import my_model/ --out my_model.onebit             a folder of safetensors
  onebit import microsoft/bitnet-b1.58-2B-4T                from the Hugging Face Hub, through huggingface_hub
  onebit import binary.h5 --out binary.onebit               a network of larq or Keras, .h5 or .keras
  onebit import model.gguf --report                         read and check everything, and write nothing
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "import",
        run,
        EXAMPLES,
        help="import a language model (GGUF files, folders of safetensors) or a network of larq and Keras",
        description="Import a language model, or a classifier of larq or Keras. Weights of one and two bits stay what they are.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a GGUF file, a folder of safetensors, OWNER/NAME on the Hub, or .h5 or .keras"
    )
    parser.add_argument(
        "--out", type=arguments.path, metavar="FILE", help="the file to write (default SOURCE.onebit here)"
    )
    parser.add_argument("--report", action="store_true", help="read and check everything, and write nothing")
    parser.add_argument(
        "--wide",
        choices=("int8", "float32"),
        default="int8",
        help="what matrices of four bits and more become (default %(default)s)",
    )
    parser.add_argument("--context", type=int, metavar="N", help="the most tokens of a text (default the model's)")
    parser.add_argument("--trust", action="store_true", help="import matrices whose figures look wrong")
    text = (
        "of Keras: what the network was trained with: -1 to 1 (symmetric, the default), 0 to 1 (unit) or 0 to 255 (raw)"
    )
    parser.add_argument("--pixels", choices=("symmetric", "unit", "raw"), default="symmetric", help=text)
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.cli.progress import shown
    from onebit.importing import import_model

    if args.source.endswith((".h5", ".hdf5", ".keras")):
        from onebit.importing.keras import import_keras

        found = import_keras(args.source, args.out, pixels=args.pixels, write_file=not args.report)
        print(json.dumps(found.to_dict()) if args.json else found)
        return 0
    with shown():
        report = import_model(
            args.source,
            args.out,
            wide=args.wide,
            context=args.context,
            trust=args.trust,
            write_file=not args.report,
        )
    print(json.dumps(report.to_dict()) if args.json else report)
    return 0
