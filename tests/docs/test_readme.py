"""The README stays a front door: short, few numbers. The pages next to it say who wrote what, and how to change it."""

import re

import pages
import yaml

import onebit


def test_it_is_short():
    text = pages.README.read_text("utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 800
    assert len(re.findall(r"(?<![\w.,])\d[\d.,]*", text)) <= 50


def test_its_tables_are_narrow():
    assert all(columns <= 5 for columns in pages.tables(pages.README))


def test_it_shows_what_a_visitor_needs_first():
    lines = [command.words for command in pages.commands(pages.README)]
    assert ("demo",) in lines
    for kind, last in (("images", "classify"), ("tiny", "generate")):
        start = next(i for i, words in enumerate(lines) if words[:2] == ("train", kind))
        assert [words[0] for words in lines[start : start + 3]] == ["train", "pack", last]


def test_its_commands_for_a_fresh_machine_are_those_of_the_makefile():
    assert {"make demo", "make test"} <= {line.split("#")[0].strip() for line in pages.shell_lines(pages.README)}


def test_contributing_fits_two_pages():
    text = (pages.ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert len(text.splitlines()) <= 110
    assert len(text.split()) <= 1000


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((pages.ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == onebit.__version__
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2509.07025"
