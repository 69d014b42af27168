"""Make foreign text, such as a label, a file's name or a model's output, safe to print."""

from __future__ import annotations

import re

# C0 and C1 controls, which include line ends, move the cursor, set the terminal's title and forge lines. Marks and overrides of direction
# show a text in the wrong order. Python turns bytes that are not UTF-8 into halves of surrogate pairs.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_A_LINE = re.compile(f"[{_CONTROLS}]")
# A text of several lines may contain line ends and tabs.
_IN_A_TEXT = re.compile(f"(?![\n\t])[{_CONTROLS}]")
# A line end inside a library's message, with the indentation after it.
_LINE_END = re.compile(r"\s*\n\s*")


def printable(text: object) -> str:
    r"""A name, label or path as one line that a terminal shows as it is: control characters are escaped.

    It escapes C0 and C1 controls (also line ends and tabs), marks and overrides of direction, and lone surrogates.

    Args:
        text: a text, or an object that `str` turns into one, such as a path.

    Example:
        >>> print(printable("dog\nonebit: error: forged"))
        dog\nonebit: error: forged
    """
    return _IN_A_LINE.sub(_escaped, str(text))


def printable_text(text: str) -> str:
    """A text of several lines, such as a model's output: as `printable`, but line ends and tabs stay."""
    return _IN_A_TEXT.sub(_escaped, text)


def one_line(message: object) -> str:
    """A message as one line: line ends become blanks, and the rest is escaped as in `printable`."""
    return printable(_LINE_END.sub(" ", str(message).strip()))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
