"""What a command prints, in colour where a terminal reads it."""

from __future__ import annotations

import os
import sys

# Of a description's lines: what it begins with, the word that says what a line is of, numbers, and what an instruction set can do here.
STYLES = (
    (r"^\S+", "bold"),
    (r"^ {2}[a-z]+(?= {2})", "cyan"),
    (r"(?<![\w.-])\d[\d,.]*\d|(?<![\w.-])\d(?![\w.-])", "green"),
    (r"\bruns here\b", "bold green"),
    (r"\bnot supported by this CPU\b", "dim"),
)


def say(text: object) -> None:
    """Print a description: in colour on a terminal, if rich is installed and NO_COLOR is not set; else as it is."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            # Text and not markup: brackets of a file's name or label mean nothing.
            coloured = Text(str(text))
            for pattern, style in STYLES:
                coloured.highlight_regex(f"(?m){pattern}", style)
            Console(file=sys.stdout, emoji=False).print(coloured, soft_wrap=True)
            return
    print(text)
