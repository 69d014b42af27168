"""The prompts of `onebit generate`: which word is one, and what is said of one."""

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


def readable(prompt: str) -> str:
    """A prompt without the bytes in it that are not UTF-8, which Python hands on as halves of surrogate pairs."""
    readable = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if readable != prompt:
        print("note: the prompt is not UTF-8: each byte that cannot be read is taken for \ufffd", file=sys.stderr)
    return readable


def note_length(session: TextSession, prompt: str, overflow: str) -> None:
    """Say where the model cannot see all of a prompt, and goes on all the same."""
    tokens = len(session.tokenizer.encode(prompt)) + 1
    if tokens > session.context and overflow == "slide":
        print(
            f"note: the prompt has {tokens} tokens, the model's context is {session.context}: it sees the end of it only",
            file=sys.stderr,
        )


def typed() -> Iterator[str]:
    """The lines of standard input up to an empty one, asked for on a terminal."""
    asks = sys.stdin.isatty()
    if asks:
        print("Type the beginning of a text; an empty line or Ctrl-D ends.", file=sys.stderr)
    while True:
        if asks:
            print("> ", end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()).strip():
            return
        yield line.rstrip("\n")


def write(prompt: str, pieces: Iterator[str]) -> None:
    """Print a prompt and what is written after it. The pieces are asked for before, so that a refusal does not come after a printed prompt."""
    print(printable_text(prompt), end="", flush=True)
    try:
        for piece in pieces:
            print(printable_text(piece), end="", flush=True)
    finally:
        print(flush=True)  # what is said next, such as an error, has a line of its own
