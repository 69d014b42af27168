"""`onebit serve`: serve packed models over HTTP."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from onebit.cli import arguments
from onebit.errors import OnebitError
from onebit.serving.settings import Settings, resolve

EXAMPLES = """examples:
  onebit serve books                                          at http://127.0.0.1:8080
  onebit serve books pets.onebit --port 9000                  several models at one address
  onebit serve books --host 0.0.0.0 --api-key-file keys.txt   for other machines, with a key
  onebit serve books --workers 2 --threads 1                  two processes that share the port
  curl localhost:8080/v1/completions -d '{"prompt": "It was", "seed": 1}'

Each flag is also a variable, such as ONEBIT_SERVE_PORT, and a key of the YAML file of --config. A flag comes before a variable, and that before
the file. SIGHUP reads replaced files again; SIGTERM finishes what runs, and ends.

Needs: pip install "onebit[serve]"
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "serve",
        run,
        EXAMPLES,
        help="serve packed models over HTTP",
        description=(
            "Answer requests for texts as OpenAI's clients send them, classify images, and show a page that does both. "
            "Only this machine reaches the server, unless --host says otherwise. PyTorch is not needed."
        ),
    )
    text = "a .onebit file, or the name of one that comes with onebit: books"
    parser.add_argument("file", nargs="+", type=arguments.packed_file, metavar="FILE", help=text)
    text = "a YAML file with settings, such as port: 8080"
    parser.add_argument("--config", metavar="DATA", help=text)
    for item in fields(Settings):
        _add_flag(parser, item)


def _add_flag(parser: Any, item: Any) -> None:
    flag, text = "--" + item.name.replace("_", "-"), item.metadata["help"]
    if isinstance(item.default, bool):
        parser.add_argument(flag, action="store_const", const=True, help=text)
    elif isinstance(item.default, tuple):
        parser.add_argument(flag, action="append", metavar=item.metadata["metavar"], help=text)
    else:
        shown = f" (default {item.default:g})" if isinstance(item.default, (int, float)) else ""
        shown = f" (default {item.default})" if isinstance(item.default, str) and item.default else shown
        parser.add_argument(flag, metavar=item.metadata["metavar"], help=text + shown)


def run(args: argparse.Namespace) -> int:
    settings = resolve(vars(args))
    try:
        from onebit.serving.run import serve
    except ImportError as error:
        if error.name not in ("starlette", "uvicorn", "httptools", "python_multipart", "jinja2"):
            raise
        raise OnebitError(f'[serve] this command needs {error.name}: pip install "onebit[serve]"') from None
    return serve(args.file, settings)
