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
  onebit export qonnx digits.onebit --out digits.qonnx.onnx --check      a network of signs for hls4ml and FINN
  onebit export web books-10m --out site                                 a page that writes, without a server that computes
  onebit export c digits.onebit --out digits --core cortex-m4 --check    C99 for microcontrollers, with its sizes
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
        "language models as a folder; onnx: standard operators; qonnx, verilog, nir: networks of signs for hardware; web: a page that "
        "runs the model; c: C99 for microcontrollers",
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
    text = "onnx: bits (exact, the default) or int2 (fast, not exact); qonnx: int2 (for hls4ml, the default) or bipolar (for FINN)"
    parser.add_argument("--weights", choices=("bits", "int2", "bipolar"), help=text)
    parser.add_argument("--engine", type=arguments.path, metavar="FOLDER", help=page)
    text = "read the new file back and compare its outputs; c: of N random inputs (default 100)"
    parser.add_argument("--check", nargs="?", type=int, const=True, metavar="N", help=text)
    parser.add_argument("--name", metavar="NAME", help="c: of files and functions (default the file's)")
    parser.add_argument("--layout", choices=("plain", "arduino", "zephyr"), help="c: the folder (default plain)")
    parser.add_argument(
        "--core", metavar="CORE", help="c: cortex-m0, -m3, -m4, -m7, -m33, -m55 or rv32, whose memory it has to fit in"
    )
    parser.add_argument("--flash", type=int, metavar="BYTES", help="c: the flash of the part")
    parser.add_argument("--ram", type=int, metavar="BYTES", help="c: the RAM of the part")
    arguments.as_json(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.exports import export

    options = ("dtype", "weights", "check", "engine", "name", "layout", "core", "flash", "ram")
    given = {key: getattr(args, key) for key in options if getattr(args, key) is not None}
    result = export(args.file, args.to, args.out, **given)
    print(json.dumps(result.to_dict()) if args.json else result)
    return 0 if result.passed else 1
