"""docs/training.md and the command's help list the keys of recipes as their sections declare them."""

import pages
import pytest

from onebit.cli.main import main
from onebit.training.recipe import KINDS, load_recipe, short_names
from onebit.training.recipe.table import help_text, markdown

KEYS = [key for recipe in KINDS.values() for key in short_names(recipe).values()]


def test_the_page_has_the_table_of_the_declarations():
    _, found, table = (pages.ROOT / "docs" / "training.md").read_text("utf-8").partition("\n## All keys\n\n")
    assert found
    assert table == markdown(), "after '## All keys' put what `python -m onebit.training.recipe.table` prints"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.section}.{key.name}")
def test_every_key_says_what_it_decides(key):
    assert key.meaning
    assert key.meaning[-1] not in ".,;"
    assert len(key.meaning) < 300


def test_help_explains_every_key(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    help = " ".join(capsys.readouterr().out.split())
    for key in KEYS:
        assert f"--{key.short.replace('_', '-')} " in help
        assert " ".join(key.meaning.split()) in help


def test_help_of_a_recipe_has_its_keys_and_values(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["train", "tiny", "--help"])
    lines = capsys.readouterr().out
    assert "here 18)" in next(line for line in lines.split("\n") if "--batch-size" in line)
    assert "--validation-tokens" in lines
    assert "--augment" not in lines


def test_help_fits_its_width():
    for width in (60, 80, 120):
        lines = help_text(load_recipe("digits"), width).split("\n")
        assert max(len(line) for line in lines if line.startswith(" ")) <= max(66, width)
