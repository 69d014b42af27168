"""What the site adds to the pages: its sidebar, the reference of the API, and the pictures that are drawn in seconds."""

from __future__ import annotations

import importlib
import inspect
import os
import posixpath
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from docutils import nodes
from outline import (
    API,
    COMMAND,
    FRONT,
    INDEX,
    MODELS,
    commands,
    draw_pictures,
    exported,
    reference,
    sidebar,
    with_models,
)
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

from onebit.exports import export

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "build" / "web"  # of make wasm; without it the site has no models
REFERENCE = "docs/reference"  # written anew by each build

log = logging.getLogger(__name__)


def write_reference(app: Sphinx) -> None:
    """Write the pages of the reference next to the others, where they are looked for."""
    folder = ROOT / REFERENCE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for module, text in reference(exported((ROOT / f"{API}.md").read_text("utf-8"))):
        (folder / f"{module}.rst").write_text(text, "utf-8")
    with mock.patch.dict(os.environ, {"COLUMNS": "96"}):
        (folder / "commands.rst").write_text(commands(), "utf-8")


def add_trees(app: Sphinx, page: str, source: list[str]) -> None:
    """Sphinx learns the order of the pages here, so that they need not say it on GitHub."""
    if page == FRONT:
        app.env.note_dependency(str(ENGINE / "onebit.wasm"))
        if (ENGINE / "onebit.wasm").exists():
            source[0] = with_models(source[0])
        source[0] += "\n" + sidebar((ROOT / f"{INDEX}.md").read_text("utf-8"))
    elif page == INDEX:
        source[0] = "---\norphan: true\n---\n" + source[0]
    elif page == API:
        source[0] += tree(exported(source[0]))
    elif page == COMMAND:
        source[0] += "\n## Every command\n\n[Every command](reference/commands.rst) has what `--help` prints.\n" + tree(
            ["commands"]
        )


def tree(names: Iterable[str]) -> str:
    """Pages of the reference below another page."""
    pages = "\n".join(f"/{REFERENCE}/{name}" for name in names)
    return f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def link_names(app: Sphinx, tree: nodes.document) -> None:
    """Each name in the tables of docs/api.md leads to its place in the reference."""
    if app.env.docname != API:
        return
    for row in tree.findall(nodes.row):
        first = next(iter(row[0].findall(nodes.literal)), None)
        section = next(parent for parent in ancestors(row) if isinstance(parent, nodes.section))
        if first is not None:
            module = section[0].astext()
            target = first.astext()
            if inspect.ismodule(getattr(importlib.import_module(module), target, None)):
                kind = "mod"
            else:
                kind = "obj"
            link = addnodes.pending_xref(
                "", refdomain="py", reftype=kind, reftarget=f"{module}.{target}", refdoc=API, refwarn=True
            )
            first.replace_self(link)
            link += first


def title_links(app: Sphinx, tree: nodes.document, page: str) -> None:
    """On GitHub a link to a page shows its file; here it shows its title."""
    for link in tree.findall(nodes.reference):
        if link.get("internal") and link.astext().endswith(".md"):
            base = app.builder.get_target_uri(page)
            found = posixpath.normpath(posixpath.join(posixpath.dirname(base), link.get("refuri", "")))
            target = posixpath.splitext(found.partition("#")[0])[0]
            if target in app.env.titles:
                link.children = [nodes.Text(app.env.titles[target].astext())]


def hide_private_bases(app: Sphinx, name: str, value: Any, options: Any, bases: list[type]) -> None:
    bases[:] = [base for base in bases if not base.__name__.startswith("_")] or [object]


def hide_old_keywords(app: Sphinx, value: Any, bound: bool) -> None:
    """Layers take keywords of earlier versions as `old`, and say so when one is given."""
    if inspect.isfunction(value) and "old" in (parameters := inspect.signature(value).parameters):
        kept = [parameter for name, parameter in parameters.items() if name != "old"]
        value.__signature__ = inspect.signature(value).replace(parameters=kept)


def ancestors(node: Any) -> Iterator[Any]:
    while node.parent is not None:
        node = node.parent
        yield node


def check_reference(app: Sphinx, env: Any) -> None:
    """Every exported name has its place in the reference."""
    found = env.get_domain("py").objects
    for module, names in exported((ROOT / f"{API}.md").read_text("utf-8")).items():
        for name in names:
            if f"{module}.{name}" not in found:
                log.warning("%s.%s is not in the reference", module, name)


def finish(app: Sphinx, error: Exception | None) -> None:
    """The front page under the name that servers look for, its models, and the picture of the schemes as it is now."""
    if error is not None or app.builder.format != "html":
        return
    for folder, model in MODELS.items():
        shutil.rmtree(app.outdir / folder, ignore_errors=True)
        if (ENGINE / "onebit.wasm").exists():
            (app.outdir / folder).parent.mkdir(exist_ok=True)
            export(ROOT / model, "web", app.outdir / folder, engine=ENGINE)
    draw_pictures(app.outdir / "_images")
    shutil.copyfile(app.outdir / f"{FRONT}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_reference)
    app.connect("source-read", add_trees)
    app.connect("doctree-read", link_names)
    app.connect("doctree-resolved", title_links)
    app.connect("autodoc-process-bases", hide_private_bases)
    app.connect("autodoc-before-process-signature", hide_old_keywords)
    app.connect("env-check-consistency", check_reference)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
