"""Export to a folder that is a page with the model: any static server gives it out, and most browsers open it by a double click."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from onebit.errors import OnebitError
from onebit.exports import Site
from onebit.fileformat import PackedModel

# Where `make wasm` puts the engine and the page, and a wheel that is built then has them.
ENGINE = Path(__file__).parents[1] / "web"
# As base64 it is a literal of JavaScript, and browsers end near 512 million characters.
MOST_BYTES = 256 << 20

_COPIED = ("page.css", "icon.svg", "LICENSE")
_NEEDED = ("onebit.wasm", *_COPIED, "index.html", "onebit.js", "worker.js", "pictures.js", "page.js")
_MODULE = '<script type="module" src="page.js"></script>'
_CLASSIC = '<script src="data.js" defer></script>\n    <script src="page.js" defer></script>'
_POLICY = "script-src 'self' 'wasm-unsafe-eval'"


def write(model: PackedModel, out: Path, *, source: Path, engine: str | Path | None = None) -> Site:
    """Write a folder with a page that runs a packed model in the browser, by WebAssembly.

    Browsers load neither modules nor data from ``file:`` addresses. So the page's modules become a plain script, and the model and the engine lie in
    ``data.js`` as base64.

    Args:
        model: the model.
        out: the folder; it may not exist.
        source: the model's file.
        engine: the folder with the engine and the page, as ``make wasm`` builds it. By default the package's.

    Raises:
        OnebitError: the page cannot run the model, or there is no engine.
        OSError: the folder cannot be written.
    """
    _check(model, source)
    folder = ENGINE if engine is None else Path(engine)
    lacking = [name for name in _NEEDED if not (folder / name).is_file()]
    if lacking:
        raise OnebitError(
            f"[export] {folder} has no {lacking[0]}: run make wasm in the sources of onebit, and give its build/web as --engine"
        )
    part = out.with_name(f".{out.name[:40]}.{os.urandom(4).hex()}.part")
    try:
        part.mkdir()
        try:
            for name in _COPIED:
                shutil.copyfile(folder / name, part / name)
            for name, parts in _written(folder, source):
                with (part / name).open("w", encoding="utf-8") as file:
                    file.writelines(parts)
            part.rename(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from None
    files = list(out.iterdir())
    return Site(len(files), sum(file.stat().st_size for file in files))


def _check(model: PackedModel, source: Path) -> None:
    kind = model.task["kind"]
    if kind == "language-model":
        raise OnebitError(
            f"[export] {source} was imported, and the page has no tokenizer for it: use onebit serve, whose page writes with it"
        )
    if kind not in ("image-classification", "text-generation"):
        raise OnebitError(
            f"[export] {source} has the task {kind!r}: the page takes classifiers of images and models of texts"
        )
    size = source.stat().st_size
    if size > MOST_BYTES:
        raise OnebitError(
            f"[export] {source} has {size:,} bytes: a page takes at most {MOST_BYTES:,}; use onebit serve"
        )


def _written(folder: Path, source: Path) -> Iterator[tuple[str, list[str]]]:
    """The files that are made of the page's own, by name, in parts."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    if _MODULE not in page or _POLICY not in page:
        raise OnebitError(f"[export] {folder / 'index.html'} is of another version of onebit: run make wasm again")
    # A worker of a file: address is made of a text.
    yield "index.html", [page.replace(_MODULE, _CLASSIC).replace(_POLICY, f"{_POLICY}; worker-src blob:")]
    yield "page.js", [classic(folder, "pictures.js", "page.js")]
    data = {"name": source.name, "worker": classic(folder, "onebit.js", "worker.js")}
    yield (
        "data.js",
        [
            f"globalThis.onebitSite = {json.dumps(data)[:-1]}",
            f', "wasm": "{_base64(folder / "onebit.wasm")}", "model": "',
            _base64(source),
            '"};\n',
        ],
    )


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def classic(folder: Path, *names: str) -> str:
    """Modules that import from those before them only, as one plain script."""
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
    text = re.sub(r'^import \{[^}]*\} from "\./[^"]+";\n', "", text, flags=re.MULTILINE)
    text = re.sub(r"^export ", "", text, flags=re.MULTILINE).replace("import.meta.url", "location.href")
    return f'(() => {{\n"use strict";\n{text}}})();\n'
