"""Text that is not ours, such as a label, a file's name or a word of a model's, made safe to print."""

from __future__ import annotations

import re

# C0 and C1 controls, line ends among them, move the cursor, set the terminal's title and forge lines. The marks and overrides of direction
# show a text in another order than it has. Halves of a surrogate pair are what Python makes of bytes that are not UTF-8.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_A_LINE = re.compile(f"[{_CONTROLS}]")
# A text of its own may have lines and columns.
_IN_A_TEXT = re.compile(f"(?![\n\t])[{_CONTROLS}]")
# The line ends that a message of a library has inside, with the indentation of what follows.
_LINE_END = re.compile(r"\s*\n\s*")


def printable(text: object) -> str:
    r"""A name, label or path as one line that a terminal shows as it is: control characters are escaped.

    Escaped are C0 and C1 controls (line ends and tabs too), marks and overrides of direction, and lone surrogates; all else stays.

    Args:
        text: a text, or what `str` makes one of, such as a path.

    Example:
        >>> print(printable("dog\nonebit: error: forged"))
        dog\nonebit: error: forged
    """
    return _IN_A_LINE.sub(_escaped, str(text))


def printable_text(text: str) -> str:
    """A text of several lines, such as what a model writes: as `printable`, but line ends and tabs stay."""
    return _IN_A_TEXT.sub(_escaped, text)


def one_line(message: object) -> str:
    """A message as one line: its own line ends become blanks, and what `printable` escapes is escaped."""
    return printable(_LINE_END.sub(" ", str(message).strip()))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
