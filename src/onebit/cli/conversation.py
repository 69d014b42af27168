"""The lines of a chat: what is typed goes to the model, or is one of the chat's own commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.cli import streams
from onebit.cli.answer import print_answer
from onebit.errors import OnebitError

if TYPE_CHECKING:
    from onebit.runtime.chat import Chat

__all__ = ("WORDS", "talk")
WORDS = "/reset forgets the messages, /save FILE writes them as JSON, /quit or Ctrl-D ends, Ctrl-C stops an answer."


def talk(chat: Chat, options: dict[str, Any]) -> None:
    """Read lines and print answers until the input ends.

    Args:
        chat: keeps the messages.
        options: of each answer, see `Chat.answer`.

    Raises:
        OnebitError, OSError: something cannot be done, and nobody sits at a terminal who could say it otherwise.
    """
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
    elif word == "/help":
        print(WORDS, file=sys.stderr)
    elif word[:1] == "/" and word[1:].isalpha():
        raise OnebitError(f"{word}: a chat does not have this command. {WORDS}")
    elif word:
        print_answer(chat.answer(line, **options))


def _line() -> str:
    print("> " * sys.stdin.isatty(), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()
