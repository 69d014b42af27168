"""The prompts of `onebit generate`: finding them among the words, reading and printing them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from onebit.errors import OnebitError
from onebit.pretrained import DEFAULT, find
from onebit.printable import printable, printable_text

if TYPE_CHECKING:
    from onebit.runtime.text import TextSession


def file_and_prompt(file: str | None, prompt: str | None) -> tuple[Path, str | None]:
    """The model file and the prompt. A single word is a prompt unless it is a file or looks like a path."""
    if file is None:
        return find(DEFAULT), None
    if prompt is None and not _names_a_file(file):
        if "/" in file and " " not in file:
            print(f"note: file not found: {printable(file)}; it is used as the prompt", file=sys.stderr)
        return find(DEFAULT), file
    if not file:
        raise OnebitError("[generate] FILE is empty: give a .onebit file, or leave it out")
    return find(file), prompt


def _names_a_file(word: str) -> bool:
    """Whether a word is, or was meant as, a file's name: it ends in .onebit, or its folder exists."""
    if word.endswith(".onebit") or (word.startswith(("/", "./", "../", "~")) and " " not in word):
        return True
    try:
        # "and/or" is a prompt, unless there is a folder "and".
        return bool(word) and (find(word).exists() or ("/" in word and " " not in word and Path(word).parent.is_dir()))
    except OSError:  # a prompt may be longer than a file's name can be
        return False


def readable(prompt: str) -> str:
    """A prompt with U+FFFD for each byte that is not UTF-8. Python passes such bytes as lone surrogates."""
    readable = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if readable != prompt:
        print("note: the prompt is not UTF-8: each unreadable byte becomes \ufffd", file=sys.stderr)
    return readable


def note_length(session: TextSession, prompt: str, overflow: str) -> None:
    """Tell the user if the prompt is longer than the model's context."""
    tokens = len(session.tokenizer.encode(prompt)) + 1
    if tokens > session.context and overflow == "slide":
        print(
            f"note: the prompt has {tokens} tokens, the model's context is {session.context}: it sees only the end of the prompt",
            file=sys.stderr,
        )


def typed() -> Iterator[str]:
    """The lines of standard input up to an empty one. A terminal shows a `>` before each."""
    asks = sys.stdin.isatty()
    if asks:
        print("Type the beginning of a text. An empty line or Ctrl-D quits.", file=sys.stderr)
    while True:
        if asks:
            print("> ", end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()).strip():
            return
        yield line.rstrip("\n")


def write(prompt: str, pieces: Iterator[str]) -> None:
    """Print a prompt and its continuation. The caller creates `pieces` first, so errors come before the prompt."""
    print(printable_text(prompt), end="", flush=True)
    try:
        for piece in pieces:
            print(printable_text(piece), end="", flush=True)
    finally:
        print(flush=True)  # the next output, such as an error, starts on its own line
