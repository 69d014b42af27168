"""`onebit export`: write a packed file in another format."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments

EXAMPLES = """examples:
  onebit export safetensors pets.onebit --out pets.safetensors           every weight as a float32
  onebit export safetensors books --out books.safetensors --dtype int8   bits as -1, 0 and 1, with their scales
  onebit export gguf chat.onebit --out chat.gguf                         a language model for llama.cpp
  onebit export transformers bitnet.onebit --out bitnet/                 ternary weights with one scale for a matrix
  onebit export safetensors pets.onebit --out pets.safetensors --check   and compute the model from the new file
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "export",
        run,
        EXAMPLES,
        help="write a packed file in another format",
        description="Write a packed file in another format, with all its weights. Exits with 1 if --check finds a difference.",
    )
    parser.add_argument(
        "to",
        metavar="FORMAT",
        help="safetensors: plain numbers, for NumPy, PyTorch and others; gguf: language models for llama.cpp; transformers: ternary "
        "language models as a folder",
    )
    arguments.file(parser)
    parser.add_argument(
        "--out", type=arguments.path, metavar="PATH", required=True, help="the file to write; it may not exist"
    )
    parser.add_argument("--dtype", choices=("float32", "int8"), help="of the weights (default float32)")
    parser.add_argument("--check", action="store_true", help="read the new file back and compare its outputs")
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.exports import export

    given = {"dtype": args.dtype, "check": args.check}
    result = export(args.file, args.to, args.out, **{key: value for key, value in given.items() if value})
    print(json.dumps(result.to_dict()) if args.json else result)
    return 0 if result.passed else 1
