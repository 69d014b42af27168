"""What the site is made of, as the pages say it: the sidebar of the tables of docs/README.md, the reference of docs/api.md, the
docstrings and the parsers of the commands.

It needs no Sphinx, so that the tests can read it too.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

FRONT, INDEX, API, COMMAND = "README", "docs/README", "docs/api", "docs/command"
# Each model that runs in the front page, with the folder of its page. `make wasm` builds what they need.
MODELS = {"try/write": "src/onebit/pretrained/books-10m.onebit", "try/draw": "web/digits.onebit"}
MODELS_HERE = """
## A model in this page

It runs in your browser, and nothing leaves your machine: 10 million bits that write like an old novel, 1.3 MB.

```{raw} html
<iframe class="model" src="try/write/index.html" title="A language model that writes" loading="lazy"></iframe>
<p>The same in <a href="try/write/index.html">a page of its own</a>, and
<a href="try/draw/index.html">one that reads a digit that you draw</a>.</p>
```
"""
# What functions of `onebit` give and raise: their classes are not exported, but a reader meets them.
MET = {
    "onebit": (
        "onebit.speed.Speed",
        "onebit.file_info.FileInfo",
        "onebit.evaluation.ImageFigures",
        "onebit.evaluation.TextFigures",
        "onebit.verification.Verification",
        "onebit.errors.FormatError",
        "onebit.errors.DataError",
        "onebit.errors.RecipeError",
        "onebit.errors.PackError",
    )
}


def sections(text: str) -> dict[str, str]:
    """The sections of a page, by their titles."""
    return dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.M | re.S))


def sidebar(index: str) -> str:
    """The pages in the tables of docs/README.md as trees for the sidebar, one for each section."""
    trees = []
    for title, body in sections(index).items():
        links = re.findall(r"^\| \[[^\]]+\]\(([^)]+)\)", body, re.M)
        names = [posixpath.splitext(posixpath.normpath(posixpath.join("docs", link)))[0] for link in links]
        pages = "\n".join(f"/{name}" for name in names if name != FRONT)
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n")
    return "\n".join(trees)


def with_models(front: str) -> str:
    """The front page with models that run in it, before its first section."""
    before, heading, after = front.partition("\n## ")
    if not heading:
        raise ValueError("the front page has no section")
    return f"{before}{MODELS_HERE}{heading}{after}"


def exported(api: str) -> dict[str, dict[str, str]]:
    """The names of each module that docs/api.md lists, with what it says of them."""
    found = {title: dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", body, re.M)) for title, body in sections(api).items()}
    return {module: names for module, names in found.items() if names}


def reference(modules: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """A page of the reference for each module: its name and its text. What an earlier page has is named there only."""
    known: dict[int, str] = {}
    for module, names in modules.items():
        lines = [module, "=" * len(module), "", f".. automodule:: {module}", ""]
        for name, what in names.items():
            value = getattr(importlib.import_module(module), name)
            full = f"{module}.{name}"
            kind = "class" if inspect.isclass(value) else "function" if inspect.isfunction(value) else "data"
            if inspect.ismodule(value):
                continue  # it has a page of its own
            if kind == "data":
                lines += [f".. py:data:: {name}", "", f"   {what[0].upper()}{what[1:]}.", ""]
            elif id(value) in known:
                lines += [f".. py:{kind}:: {name}", "", f"   The same as `{known[id(value)]}`.", ""]
            else:
                lines += [f".. auto{kind}:: {full}", *(["   :members:"] if kind == "class" else []), ""]
            known.setdefault(id(value), full)
        for full in MET.get(module, ()):
            lines += [f".. autoclass:: {full}", "   :members:", ""]
        yield module, "\n".join(lines)


def commands() -> str:
    """A page with what `--help` prints of each command."""
    from onebit.cli.commands import build_parser

    lines = ["Every command", "=============", "", "What ``--help`` prints.", ""]
    for name, parser in subparsers(build_parser()).items():
        title = f"onebit {name}"
        lines += [title, "-" * len(title), "", ".. code-block:: text", ""]
        lines += [f"   {line}".rstrip() for line in parser.format_help().splitlines()] + [""]
    return "\n".join(lines)


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def draw_pictures(folder: Path) -> None:
    """The pictures of pages that take seconds, as the code draws them now."""
    from onebit.plots import gallery_figure

    gallery_figure().savefig(folder / "schemes.png", dpi=110)
