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
  onebit export onnx pets.onebit --out pets.onnx --check                 for onnxruntime and other runtimes of ONNX
  onebit export web books-10m --out site                                 a page that writes, without a server that computes
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
        "language models as a folder; onnx: standard operators; web: a page that runs the model",
    )
    arguments.file(parser)
    parser.add_argument(
        "--out",
        type=arguments.path,
        metavar="PATH",
        required=True,
        help="the file to write, or the folder; it may not exist",
    )
    parser.add_argument("--dtype", choices=("float32", "int8"), help="of the weights (default float32)")
    page = "web: the folder that make wasm builds, build/web (default: the one in the package)"
    text = "onnx: bits (exact, the default) or int2 (fast in onnxruntime, which then rounds inputs to 8 bits)"
    parser.add_argument("--weights", choices=("bits", "int2"), help=text)
    parser.add_argument("--engine", type=arguments.path, metavar="FOLDER", help=page)
    parser.add_argument("--check", action="store_true", help="read the new file back and compare its outputs")
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.exports import export

    given = {"dtype": args.dtype, "weights": args.weights, "check": args.check, "engine": args.engine}
    result = export(args.file, args.to, args.out, **{key: value for key, value in given.items() if value})
    print(json.dumps(result.to_dict()) if args.json else result)
    return 0 if result.passed else 1
