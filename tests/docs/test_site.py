"""The documentation site without building it: its notebooks run in a short form; its sidebar and its reference have all that there is."""

import functools
import re
import runpy
import sys

import jupytext
import matplotlib
import pages
import pytest

import onebit

sys.path.insert(0, str(pages.ROOT / "docs"))
import outline

NOTEBOOKS = pytest.mark.parametrize("notebook", pages.NOTEBOOKS, ids=lambda path: path.stem)
API = outline.exported((pages.ROOT / "docs" / "api.md").read_text("utf-8"))


@NOTEBOOKS
def test_a_notebook_is_in_the_percent_format(notebook):
    text = notebook.read_text("utf-8")
    cells = jupytext.reads(text, fmt="py:percent").cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert sum(cell.cell_type == "code" for cell in cells) >= 5
    assert all(cell.source.strip() for cell in cells)
    # Written back it is the same file, so that nothing of it is lost on the site.
    assert len(cells) == len(re.findall(r"^# %%", text, re.M))


@NOTEBOOKS
@pytest.mark.filterwarnings("error")
def test_a_notebook_runs(notebook, tmp_path, monkeypatch, cache):
    """With one short epoch for each training; the site runs it whole."""
    train = onebit.train

    @functools.wraps(train)
    def short(recipe, *args, **keys):
        least = {"epoch_steps": 2, "warmup": 1} if recipe == "tiny" else {"train_limit": 100}
        return train(recipe, *args, **keys | {"epochs": 1} | least)

    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.setattr(onebit, "train", short)
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(notebook))
    assert not pyplot.get_fignums()


def test_the_sidebar_has_every_page():
    shown = outline.sidebar((pages.ROOT / outline.INDEX).with_suffix(".md").read_text("utf-8"))
    listed = re.findall(r"^/(\S+)$", shown, re.M)
    every = [page.relative_to(pages.ROOT).with_suffix("") for page in [*pages.PAGES, *pages.NOTEBOOKS]]
    assert sorted(listed) == sorted({str(page) for page in every} - {outline.FRONT, outline.INDEX})


def test_the_reference_has_every_name():
    written = dict(outline.reference(API))
    assert written.keys() == API.keys()
    for module, names in API.items():
        documented = re.findall(
            r"^\.\. (?:auto|py:)(?:class|function|data):: (?:onebit[\w.]*\.)?(\w+)$", written[module], re.M
        )
        modules = {name for name in names if f"{module}.{name}" in API}
        assert names.keys() - modules <= set(documented)
        assert f".. automodule:: {module}\n" in written[module]


def test_the_page_of_commands_has_each_with_its_options():
    from onebit.cli.commands import COMMANDS

    text = outline.commands()
    assert re.findall(r"^onebit (\w+)\n-+$", text, re.M) == list(COMMANDS)
    assert text.count("   usage: onebit ") == len(COMMANDS)


def test_what_two_modules_export_is_described_once():
    whole = "".join(text for _, text in outline.reference(API))
    described = re.findall(r"^\.\. auto(?:class|function):: (\S+)$", whole, re.M)
    assert "onebit.load" in described
    assert "onebit.runtime.load" not in described
    assert ".. py:function:: load\n\n   The same as `onebit.load`." in whole


def test_pictures_that_the_site_draws_are_those_of_pages(tmp_path):
    outline.draw_pictures(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn
    assert drawn <= {target for page in pages.PAGES for target in pages.links(page)}


def test_the_front_page_has_models_that_run_in_it():
    front = (pages.ROOT / "README.md").read_text("utf-8")
    made = outline.with_models(front)
    assert made.replace(outline.MODELS_HERE, "") == front
    assert next(iter(outline.sections(made))) == "A model in this page"
    linked = set(re.findall(r'(?:src|href)="(.+?)/index\.html"', outline.MODELS_HERE))
    assert linked == set(outline.MODELS) and all((pages.ROOT / model).exists() for model in outline.MODELS.values())
    with pytest.raises(ValueError, match="no section"):
        outline.with_models("nothing")
