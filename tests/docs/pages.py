"""The pages of the project as markdown-it reads them: their sentences, code, commands, links and anchors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jupytext
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
# Python files; their Markdown is read as that of a page.
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))

_COMMAND = re.compile(r"(?:^|.*\s)(?:\S*/)?onebit\s+(.*)")


class Block(NamedTuple):
    """A block of code: its language, its text and the number of its first line."""

    language: str
    text: str
    line: int


class Command(NamedTuple):
    """What follows `onebit` in a line of a shell, cut into words."""

    words: tuple[str, ...]
    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """The Markdown of a page or of a notebook."""
    text = page.read_text("utf-8")
    if page.suffix != ".py":
        return text
    return "\n\n".join(c.source for c in jupytext.reads(text, fmt="py:percent").cells if c.cell_type == "markdown")


@cache
def tokens_of(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text_of(page))


def _inline(page: Path) -> Iterator[Token]:
    return (token for token in tokens_of(page) if token.type == "inline")


def _text(token: Token) -> str:
    """What a reader sees of an inline token."""
    parts = {"softbreak": " ", "hardbreak": " "}
    seen = ("text", "code_inline")
    return "".join(c.content if c.type in seen else parts.get(c.type, "") for c in token.children or ())


def blocks(page: Path) -> list[Block]:
    """All blocks of code, fenced or indented."""
    found = (token for token in tokens_of(page) if token.type in ("fence", "code_block"))
    return [Block(t.info.strip(), t.content, (t.map or [0])[0] + 1) for t in found]


def paragraphs(page: Path) -> list[str]:
    """The text of paragraphs and list items, without headings, tables and code."""
    tokens = tokens_of(page)
    return [_text(after) for token, after in zip(tokens, tokens[1:], strict=False) if token.type == "paragraph_open"]


def sentences(paragraph: str) -> list[str]:
    """A sentence ends at a full stop, a question mark or an exclamation mark; dots that leave something out end none."""
    return re.split(r"(?<=[^.][.?!])[)\"]*\s+", paragraph)


def code_spans(page: Path) -> list[str]:
    """Code within text and tables."""
    return [c.content for token in _inline(page) for c in token.children or () if c.type == "code_inline"]


def tables(page: Path) -> list[int]:
    """The number of columns of each table."""
    widths: list[int] = []
    heading = False
    for token in tokens_of(page):
        heading = token.type == "thead_open" or (heading and token.type != "thead_close")
        if token.type == "thead_open":
            widths.append(0)
        widths[-1:] = [widths[-1] + 1] if heading and token.type == "th_open" else widths[-1:]
    return widths


def links(page: Path) -> list[str]:
    """The targets of links and pictures."""
    children = [c for token in _inline(page) for c in token.children or ()]
    return [str(c.attrs[key]) for c in children for key in ("href", "src") if key in c.attrs]


def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    tokens = tokens_of(page)
    titles = [_text(after) for token, after in zip(tokens, tokens[1:], strict=False) if token.type == "heading_open"]
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def shell_lines(page: Path) -> list[str]:
    """The lines of blocks that have no language, or a shell's; a line that ends in a backslash goes on."""
    text = "\n".join(b.text for b in blocks(page) if b.language in ("", "sh", "bash"))
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def commands(page: Path) -> list[Command]:
    """Every call of `onebit` in a page's blocks."""
    found = []
    for line in shell_lines(page):
        match = _COMMAND.fullmatch(line.split("#")[0].strip())
        if match and not line.startswith("pip "):
            found.append(Command(tuple(shlex.split(match[1])), name_of(page), line))
    return found
