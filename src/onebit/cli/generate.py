"""`onebit generate`: write text with a packed language model, streamed to the terminal."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, sampling_flags
from onebit.cli.prompts import file_and_prompt, note_length, readable, typed, write
from onebit.errors import OnebitError
from onebit.pretrained import DEFAULT

EXAMPLES = """examples:
  onebit generate "It was"                                    use the model that comes with onebit
  onebit generate mine.onebit "It was a dark night"           use your own model
  onebit generate "It was" --temperature 0                    take the most probable token each time
  onebit generate mine.onebit                                 continue each line that you type
  onebit generate "It was" --json | jq .tokens_per_second
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "generate",
        run,
        EXAMPLES,
        help="write text with a packed language model",
        description=(
            "Continue a prompt with a packed language model. The default model comes with onebit and was trained on English books. "
            "Without a prompt, continue each line that you type. PyTorch is not needed."
        ),
    )
    text = f"a .onebit file (default {DEFAULT}, which comes with onebit)"
    parser.add_argument("file", nargs="?", metavar="FILE", help=text)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="the text to continue")
    parser.add_argument(
        "--max-new-tokens", type=int, default=200, metavar="N", help="tokens to write (default %(default)s)"
    )
    sampling_flags.add(parser)
    text = "with a full context: slide forgets the older half, stop ends (default %(default)s)"
    parser.add_argument("--overflow", choices=("slide", "stop"), default="slide", help=text)
    arguments.precision(parser)
    arguments.cache(parser)
    arguments.threads(parser)
    arguments.as_json(parser, "print one JSON object with tokens and timings; needs a PROMPT")


def run(args: argparse.Namespace) -> int:
    from onebit.runtime import load_text_session

    file, prompt = file_and_prompt(args.file, args.prompt)
    session = load_text_session(file, precision=args.precision, threads=args.threads, cache=args.cache)
    if args.json and prompt is None:
        raise OnebitError("[generate] --json needs a PROMPT")
    options: dict[str, Any] = {name: getattr(args, name) for name in ("max_new_tokens", "stop", "overflow")}
    sampling = sampling_flags.chosen(args)
    for text in typed() if prompt is None else (prompt,):
        text = readable(text)
        note_length(session, text, args.overflow)
        if args.json:
            print(json.dumps(session.write(text, sampling=sampling, **options).to_dict()))
        else:
            write(text, session.generate(text, sampling=sampling, **options))
    return 0
