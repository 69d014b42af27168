"""The name of a model in C."""

from __future__ import annotations

import re
from pathlib import Path

from onebit.errors import OnebitError

MOST = 40
# Words of C and C++, and names of headers and files that the source includes or lies beside.
_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return short signed
sizeof static struct switch typedef union unsigned void volatile while bool class delete new private public template this
main math string stddef stdint stdio stdlib arm_acle arm_mve
"""
TAKEN = frozenset(_WORDS.split())


def checked(name: str | None, source: Path) -> str:
    """The name of files and functions.

    Args:
        name: the one that was asked for; None for that of the file.
        source: the model's file.

    Raises:
        OnebitError: it is not an identifier of C, or has a meaning of its own there.
    """
    chosen = source.stem if name is None else name
    hint = "give one with --name" if name is None else "use another one"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", chosen) or len(chosen) > MOST:
        raise OnebitError(
            f"[export] {chosen!r} is not a name in C: letters, digits and underscores, a letter first, at most {MOST}; {hint}"
        )
    if chosen.lower() in TAKEN:
        raise OnebitError(f"[export] {chosen!r} has a meaning of its own in C: {hint}")
    return chosen
