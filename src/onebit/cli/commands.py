"""All commands in one list, which the parser, the tests and the documentation read."""

from __future__ import annotations

import argparse
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from onebit import __version__
from onebit.printable import printable

# In the order in which `onebit --help` lists them; each is a module of this package.
NAMES = (
    "demo",
    "train",
    "evaluate",
    "plot",
    "reproduce",
    "pack",
    "import",
    "convert",
    "summary",
    "info",
    "export",
    "verify",
    "bench",
    "classify",
    "detect",
    "segment",
    "generate",
    "chat",
    "serve",
    "score",
    "completion",
)
COMMANDS: dict[str, ModuleType] = {name: import_module(f"onebit.cli.{name}") for name in NAMES}

EPILOG = """examples:
  onebit demo                                    train, pack and run a 1-bit network on handwritten digits: a minute
  onebit generate "It was"                       continue a text with the one-bit language model in the package
  onebit train images --data my_pictures         train on your own images, one folder per class
  onebit pack runs/images                        write runs/images.onebit, 32 times smaller
  onebit classify runs/images.onebit photo.jpg   print what the photo shows
  onebit train tiny --data book.txt              train a language model on your own text
  onebit generate runs/tiny.onebit "It was"      continue a text with it, after `onebit pack runs/tiny`

'onebit COMMAND --help' describes one command.
"""


class _Parser(argparse.ArgumentParser):
    """Escapes control characters when an error message quotes the user's words."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="onebit",
        description="Train 1-bit neural networks, pack them 32 times smaller, and run them fast on a CPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"onebit {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS.values():
        command.add_parser(subparsers)
    return parser
