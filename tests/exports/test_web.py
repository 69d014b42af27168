"""Pages of one model, without a browser. tests/web/test_export.py opens them."""

import base64
import json
import shutil
from pathlib import Path

import pytest

from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.exports import export, web

WEB = Path(__file__).parents[2] / "web"
DIGITS = WEB / "digits.onebit"


@pytest.fixture
def engine(tmp_path):
    folder = tmp_path / "engine"
    shutil.copytree(WEB, folder)
    (folder / "onebit.wasm").write_bytes(b"\0asm")
    (folder / "LICENSE").write_text("a licence")
    return folder


def test_a_folder_has_all_that_its_page_asks_for(engine, tmp_path):
    made = export(DIGITS, "web", tmp_path / "site", engine=engine)
    site = tmp_path / "site"
    files = {file.name for file in site.iterdir()}
    assert files == {"LICENSE", "data.js", "icon.svg", "index.html", "page.css", "page.js"}
    assert made.written.files == 6 and made.written.bytes == sum(file.stat().st_size for file in site.iterdir())
    assert "open index.html" in str(made) and json.dumps(made.to_dict()) and made.passed
    page = (site / "index.html").read_text()
    assert 'type="module"' not in page and page.index("data.js") < page.index("page.js") and "worker-src blob:" in page
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []
    data = (site / "data.js").read_text()
    values = json.loads(data.removeprefix("globalThis.onebitSite = ").removesuffix(";\n"))
    assert values["name"] == "digits.onebit" and base64.b64decode(values["model"]) == DIGITS.read_bytes()
    assert base64.b64decode(values["wasm"]) == b"\0asm"
    for script in (values["worker"], (site / "page.js").read_text()):
        assert not any(line.startswith(("import ", "export ")) for line in script.splitlines())
        assert "import.meta" not in script


def test_the_package_s_own_engine_is_taken(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "ENGINE", engine)
    assert main(["export", "web", str(DIGITS), "--out", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site" / "index.html").exists()


@pytest.mark.parametrize("there", ["folder", "file"])
def test_what_exists_is_not_written_over(engine, tmp_path, there, capsys):
    target = tmp_path / "site"
    target.mkdir() if there == "folder" else target.write_text("mine")
    assert main(["export", "web", str(DIGITS), "--out", str(target), "--engine", str(engine)]) == 1
    assert (
        capsys.readouterr().err == f"onebit: error: [export] {target} exists: give another name, or delete it first\n"
    )


def test_errors(engine, tmp_path, monkeypatch):
    out = tmp_path / "site"
    monkeypatch.setattr(web, "MOST_BYTES", 1000)
    with pytest.raises(OnebitError, match=r"has 22,304 bytes: a page takes at most 1,000; use onebit serve"):
        export(DIGITS, "web", out, engine=engine)
    monkeypatch.undo()
    with pytest.raises(OnebitError, match=r"has no onebit\.wasm: run make wasm in the sources of onebit"):
        export(DIGITS, "web", out, engine=WEB)
    (engine / "index.html").write_text("another page")
    with pytest.raises(OnebitError, match=r"index\.html is of another version of onebit: run make wasm again"):
        export(DIGITS, "web", out, engine=engine)
    with pytest.raises(OnebitError, match="web has no option 'source': use engine"):
        export(DIGITS, "web", out, source="x")
    with pytest.raises(OSError, match="No such file or directory"):
        export(DIGITS, "web", tmp_path / "no" / "site", engine=engine)
    assert not out.exists() and sorted(file.name for file in tmp_path.iterdir()) == ["engine"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "language-model"}, "was imported, and the page has no tokenizer for it"),
        ({"kind": "other"}, "has the task 'other': the page takes classifiers"),
    ],
)
def test_models_that_the_page_cannot_run(task, message):
    from types import SimpleNamespace

    with pytest.raises(OnebitError, match=message):
        web._check(SimpleNamespace(task=task), DIGITS)


def test_the_page_has_what_an_export_replaces():
    page = (WEB / "index.html").read_text()
    assert page.count(web._MODULE) == 1 and page.count(web._POLICY) == 1
