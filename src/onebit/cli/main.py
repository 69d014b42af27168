"""The entry point of the command `onebit`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from onebit.cli import streams
from onebit.cli.arguments import with_dashes
from onebit.cli.commands import build_parser as build_parser
from onebit.errors import OnebitError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an error, 2 for a wrong usage, 130 for Ctrl-C."""
    streams.prepare()
    try:
        try:
            return _run(argv)
        finally:
            streams.finish()
    except BrokenPipeError:
        return 0  # the reader of the output has closed the pipe: that is not an error
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
        if error.name == "shtab":
            streams.say_error('this command needs shtab: pip install "onebit[terminal]"')
            return 1
        raise


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    args, rest = parser.parse_known_args(with_dashes(sys.argv[1:] if argv is None else argv))
    if getattr(args, "takes_recipe_keys", False):
        args.recipe_keys = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
