"""`onebit chat`: talk with an imported language model."""

from __future__ import annotations

import argparse
from typing import Any

from onebit.cli import arguments, sampling_flags
from onebit.cli.conversation import WORDS, talk

EXAMPLES = f"""examples:
  onebit chat smol.onebit
  onebit chat smol.onebit --system "Answer in one sentence." --temperature 0
  onebit chat smol.onebit --session tuesday.chat                     go on tomorrow, without reading it all again
In the chat: {WORDS}
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
    sampling_flags.add(parser)
    text = "take up the chat of this file, if it exists, and save it there at the end"
    parser.add_argument("--session", type=arguments.path, metavar="FILE", help=text)
    arguments.precision(parser)
    arguments.cache(parser)
    arguments.threads(parser)


def run(args: argparse.Namespace) -> int:
    from onebit.runtime import load_text_session
    from onebit.runtime.chat import Chat

    session = load_text_session(args.file, precision=args.precision, threads=args.threads, cache=args.cache)
    chat = Chat(session, args.system)
    if args.session is not None and args.session.exists():
        chat.messages = session.load_state(args.session)
    options = {"max_new_tokens": args.max_new_tokens, "sampling": sampling_flags.chosen(args), "stop": args.stop}
    try:
        talk(chat, options)
    finally:
        if args.session is not None and any(message["role"] == "assistant" for message in chat.messages):
            session.save_state(args.session, chat.messages)
    return 0
