"""`onebit generate`: text from a packed language model, streamed to the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.errors import OnebitError
from onebit.pretrained import DEFAULT, find
from onebit.printable import printable, printable_text
from onebit.sampling import Sampling

if TYPE_CHECKING:
    from onebit.runtime.text import TextSession

EXAMPLES = """examples:
  onebit generate "It was"                                    with the decoder that comes with onebit
  onebit generate mine.onebit "It was a dark night"           with your own
  onebit generate "It was" --temperature 0                    the most probable text
  onebit generate mine.onebit                                 line by line: each line is gone on from
  onebit generate "It was" --json | jq .tokens_per_second
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "generate",
        help="write text with a packed language model",
        description=(
            "Write on from a prompt with a packed language model, or with the one that comes with onebit, which knows English books; "
            "without a prompt, from each line that is typed. Needs no PyTorch."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help=f"a .onebit file; default {DEFAULT}, which comes with onebit"
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="the text to go on from")
    parser.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--temperature",
        type=float,
        default=Sampling.temperature,
        metavar="T",
        help="0 takes the most probable token (default %(default)s)",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="only the K most probable tokens")
    parser.add_argument(
        "--top-p",
        type=float,
        default=Sampling.top_p,
        metavar="P",
        help="only the most probable tokens that together have probability P (default %(default)s; 1 for all)",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        default=Sampling.repetition_penalty,
        metavar="R",
        help="above 1 against repetition",
    )
    parser.add_argument("--seed", type=int, help="the same text each time")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end at this text; may be given several times")
    parser.add_argument(
        "--overflow",
        choices=("slide", "stop"),
        default="slide",
        help="when the context is full: forget its older half, or end (default %(default)s)",
    )
    parser.add_argument("--precision", choices=("int8", "float32"), default="int8", help="default %(default)s")
    parser.add_argument(
        "--cache",
        choices=("bf16", "int8"),
        help="as what keys and values are kept (default bf16; float32 where --precision is)",
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="one JSON object with tokens and timings; needs a PROMPT")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from onebit.runtime import load_text_session

    file, prompt = _file_and_prompt(args.file, args.prompt)
    session = load_text_session(file, precision=args.precision, threads=args.threads, cache=args.cache)
    sampling = Sampling(**{field.name: getattr(args, field.name) for field in fields(Sampling)})
    options: dict[str, Any] = {
        "max_new_tokens": args.max_new_tokens,
        "sampling": sampling,
        "stop": args.stop,
        "overflow": args.overflow,
    }
    if prompt is not None:
        prompt = _readable(prompt)
        _note_length(session, prompt, args.overflow)
        if args.json:
            print(json.dumps(session.write(prompt, **options).to_dict()))
        else:
            _write(prompt, session.generate(prompt, **options))
        return 0
    if args.json:
        raise OnebitError("[generate] --json needs a PROMPT")
    if sys.stdin.isatty():
        print("Type the beginning of a text; an empty line or Ctrl-D ends.", file=sys.stderr)
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line.strip():
            return 0
        prompt = _readable(line.rstrip("\n"))
        _note_length(session, prompt, args.overflow)
        _write(prompt, session.generate(prompt, **options))


def _file_and_prompt(file: str | None, prompt: str | None) -> tuple[Path, str | None]:
    """Which of two words is what: a single one that is not a file and does not look like the path of one is a prompt."""
    if file is None:
        return find(DEFAULT), None
    if prompt is None and not _names_a_file(file):
        if "/" in file and " " not in file:
            print(f"note: there is no file {printable(file)}: it is taken for a prompt", file=sys.stderr)
        return find(DEFAULT), file
    if not file:
        raise OnebitError("[generate] FILE is empty: give a .onebit file, or leave it out")
    return find(file), prompt


def _names_a_file(word: str) -> bool:
    """Whether a word is a file's name or was meant as one: what ends in .onebit, and what lies in a folder that is there."""
    if word.endswith(".onebit") or (word.startswith(("/", "./", "../", "~")) and " " not in word):
        return True
    try:
        # "and/or" is a prompt, unless there is a folder "and".
        return bool(word) and (find(word).exists() or ("/" in word and " " not in word and Path(word).parent.is_dir()))
    except OSError:  # a prompt may be longer than a file's name can be
        return False


def _readable(prompt: str) -> str:
    """A prompt without the bytes in it that are not UTF-8, which Python hands on as halves of surrogate pairs."""
    readable = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if readable != prompt:
        print("note: the prompt is not UTF-8: each byte that cannot be read is taken for \ufffd", file=sys.stderr)
    return readable


def _note_length(session: TextSession, prompt: str, overflow: str) -> None:
    """Say where the model cannot see all of a prompt, and goes on all the same."""
    tokens = len(session.tokenizer.encode(prompt)) + 1
    if tokens > session.context and overflow == "slide":
        print(
            f"note: the prompt has {tokens} tokens, the model's context is {session.context}: it sees the end of it only",
            file=sys.stderr,
        )


def _write(prompt: str, pieces: Iterator[str]) -> None:
    """Print a prompt and what is written after it. The pieces are asked for before, so that a refusal does not come after a printed prompt."""
    print(printable_text(prompt), end="", flush=True)
    try:
        for piece in pieces:
            print(printable_text(piece), end="", flush=True)
    finally:
        print(flush=True)  # what is said next, such as an error, has a line of its own
