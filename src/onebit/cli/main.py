"""The entry point of the command `onebit`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from onebit import __version__
from onebit.cli import (
    bench,
    classify,
    demo,
    evaluate,
    generate,
    info,
    pack,
    plot,
    reproduce,
    score,
    streams,
    summary,
    train,
    verify,
)
from onebit.errors import OnebitError
from onebit.printable import printable

EPILOG = """examples:
  onebit demo                                    train, pack and run a 1-bit network on handwritten digits, about two minutes
  onebit generate "It was"                       write on with a decoder of single bits that comes with the package
  onebit train images --data my_pictures         train on own images in folders, one folder a class
  onebit pack runs/images                        runs/images.onebit, 32 times smaller
  onebit classify runs/images.onebit photo.jpg   what is in the photo
  onebit train tiny --data book.txt              train a language decoder on own text
  onebit generate runs/tiny.onebit "It was"      and write with it, once it is packed

'onebit COMMAND --help' tells more of each.
"""


class _Parser(argparse.ArgumentParser):
    """Repeats words of a wrong usage as a terminal can show them."""

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
    commands = (demo, train, evaluate, plot, reproduce, pack, summary, info, verify, bench, classify, generate, score)
    for command in commands:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for an error, 2 for a wrong usage, 130 for Ctrl-C."""
    streams.prepare()
    try:
        try:
            return _run(argv)
        finally:
            streams.finish()
    except BrokenPipeError:
        return 0  # who read the output has gone: not an error, and nothing more can be said
    except KeyboardInterrupt:
        streams.say("\nonebit: interrupted")
        return 130
    except (OnebitError, OSError) as error:
        streams.say_error(error)
        return 1
    except MemoryError:
        streams.say_error("there is not enough memory for this model or these inputs")
        return 1
    except ImportError as error:
        if error.name in ("torch", "lightning", "yaml", "sklearn", "matplotlib", "datasets"):
            streams.say_error(f'this command needs {error.name}: pip install "onebit[train]"')
            return 1
        raise


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if getattr(args, "takes_recipe_keys", False):
        args.recipe_keys = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
