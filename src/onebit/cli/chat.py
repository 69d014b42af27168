"""`onebit chat`: talk with an imported language model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.cli import arguments, streams
from onebit.cli.answer import print_answer
from onebit.errors import OnebitError

if TYPE_CHECKING:
    from onebit.runtime.chat import Chat

EXAMPLES = """examples:
  onebit chat smol.onebit
  onebit chat smol.onebit --system "Answer in one sentence." --temperature 0
  onebit chat smol.onebit --session tuesday.chat                     go on tomorrow, without reading it all again
In the chat: /reset forgets the messages, /save FILE writes them as JSON, /quit or Ctrl-D ends, Ctrl-C stops an answer.
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "chat",
        run,
        EXAMPLES,
        help="talk with an imported language model",
        description="Talk with an imported language model.",
    )
    arguments.file(parser)
    parser.add_argument("--system", default="", metavar="TEXT", help="what the model is told first")
    parser.add_argument(
        "--max-new-tokens", type=int, default=500, metavar="N", help="of an answer (default %(default)s)"
    )
    arguments.sampling(parser)
    text = "take up the chat of this file, if it exists, and save it there at the end"
    parser.add_argument("--session", type=arguments.path, metavar="FILE", help=text)
    arguments.precision(parser)
    parser.set_defaults(precision="float32")  # int8 inputs change the answers of models that were not trained with them
    arguments.cache(parser)
    arguments.threads(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.runtime import load_text_session
    from onebit.runtime.chat import Chat

    session = load_text_session(args.file, precision=args.precision, threads=args.threads, cache=args.cache)
    chat = Chat(session, args.system)
    if args.session is not None and args.session.exists():
        chat.messages = session.load_state(args.session)
    options = {"max_new_tokens": args.max_new_tokens, "sampling": arguments.sampling_of(args), "stop": args.stop}
    try:
        _talk(chat, args, options)
    finally:
        if args.session is not None and any(message["role"] == "assistant" for message in chat.messages):
            session.save_state(args.session, chat.messages)
    return 0


def _talk(chat: Chat, args: argparse.Namespace, options: dict[str, Any]) -> None:
    while (line := _line()) and line.strip() != "/quit":
        try:
            _obey(chat, line.strip(), options)
        except (OnebitError, OSError) as error:
            if not sys.stdin.isatty():
                raise
            streams.say_error(error)  # somebody who talks can say it otherwise, and keeps the messages


def _obey(chat: Chat, line: str, options: dict[str, Any]) -> None:
    word, _, rest = line.partition(" ")
    if word == "/reset":
        chat.reset()
    elif word == "/save":
        Path(rest or "chat.json").write_text(json.dumps(chat.messages, ensure_ascii=False, indent=1), "utf-8")
    elif word:
        print_answer(chat.answer(line, **options))


def _line() -> str:
    print("> " * sys.stdin.isatty(), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()
