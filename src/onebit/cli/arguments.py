"""Arguments that several commands share, each with one spelling and one help text."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from onebit.cli.path_types import packed_file, path

__all__ = (
    "as_json",
    "cache",
    "checkpoint",
    "command",
    "file",
    "packed_file",
    "path",
    "precision",
    "threads",
    "with_dashes",
)
Run = Callable[[argparse.Namespace], int]


def command(subparsers: Any, name: str, run: Run, examples: str, *, description: str, **options: Any) -> Any:
    """The parser of a command. Its help ends with examples."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(name, description=description, epilog=examples, formatter_class=raw, **options)
    parser.set_defaults(run=run)
    return parser


def file(parser: Any, **options: Any) -> None:
    """FILE: a packed file, by its path or by its name."""
    text = "a .onebit file, or the name of one that comes with onebit: books"
    parser.add_argument("file", type=packed_file, metavar="FILE", help=text, **options)


def precision(parser: Any) -> None:
    """--precision: the engine's arithmetic."""
    text = "arithmetic of the engine (default %(default)s)"
    parser.add_argument("--precision", choices=("int8", "float32"), default="int8", help=text)


def cache(parser: Any) -> None:
    """--cache: the type of the engine's KV cache."""
    text = "number type of the KV cache (default float32 with --precision float32; else bf16, or int8 from 2,048 tokens of context on)"
    parser.add_argument("--cache", choices=("bf16", "int8"), help=text)


def threads(parser: Any, text: str = "threads of the engine (default one per core)") -> None:
    """--threads: the engine's threads."""
    parser.add_argument("--threads", type=int, metavar="N", help=text)


def checkpoint(parser: Any) -> None:
    """--checkpoint: which network of a run folder to read."""
    text = "the network of the best or of the last epoch (default %(default)s)"
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help=text)


def as_json(parser: Any, text: str = "print one JSON object") -> None:
    """--json: machine-readable output."""
    parser.add_argument("--json", action="store_true", help=text)


def with_dashes(words: Sequence[str]) -> list[str]:
    """Flags spelled with dashes: `--top_k` becomes `--top-k`. Words after `--` stay as they are."""
    end = words.index("--") if "--" in words else len(words)
    return [*map(_with_dashes, words[:end]), *words[end:]]


def _with_dashes(word: str) -> str:
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value
