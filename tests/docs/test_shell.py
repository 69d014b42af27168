"""Lines of a shell that are not calls of `onebit`: their programs, options, paths and variables are there."""

import argparse
import os
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import pages
import pytest
import torch

LINES = list(dict.fromkeys(line for page in pages.PAGES for line in pages.shell_lines(page)))
# Code within text is a command where it has arguments.
LINES += [
    s for p in pages.PAGES for s in pages.code_spans(p) if s.startswith("python ") and " --" in s and "..." not in s
]
MAKEFILE = (pages.ROOT / "Makefile").read_text("utf-8")


def words_of(program: str) -> list[list[str]]:
    """The arguments of each line that calls a program, by the name of its file."""
    lines = [shlex.split(line, comments=True) for line in LINES if re.match(rf"(\S*/)?{program}\s", line)]
    return [words[1:] for words in lines]


class Parsed(Exception):
    """The arguments are right: nothing has to run."""


SCRIPTS = [words for words in words_of("python") if words[0].endswith(".py")]


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_programs_take_what_pages_give_them(words, monkeypatch, capsys):
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser, *args, **keys):
        parse(parser, *args, **keys)
        raise Parsed

    path = pages.ROOT / words[0]
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr(sys, "argv", [str(path), *words[1:]])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.syspath_prepend(str(path.parent))
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(path), run_name="__main__")
    except Parsed:
        return
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    finally:
        torch.set_num_threads(threads)
    pytest.fail("it takes no arguments")


def test_pages_show_programs_and_their_options():
    assert len(SCRIPTS) > 20
    assert sum(len(words) > 1 for words in SCRIPTS) > 10


@pytest.mark.parametrize("words", words_of("make"), ids=" ".join)
def test_variables_of_make_exist(words):
    for word in words[1:]:
        name, equals, _ = word.partition("=")
        assert equals
        # CXX is known to make itself.
        assert re.search(rf"\$\({name}[),]|^{name}\s*\?=", MAKEFILE, re.M), word


@pytest.mark.parametrize("words", words_of("pip"), ids=" ".join)
def test_extras_exist(words):
    extras = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for word in words:
        match = re.fullmatch(r"(?:\.|onebit)\[([\w,]+)\]", word)
        if match:
            assert set(match[1].split(",")) <= set(extras), word
        elif word.startswith((".", "/")):
            assert word == ".", word


def test_tests_that_pages_run_exist():
    shown = words_of("pytest")
    assert shown
    for words in shown:
        assert (pages.ROOT / words[0]).exists()


def test_options_and_folders_of_cmake_exist():
    shown = words_of("cmake")
    known = set(re.findall(r"option\((\w+)", (pages.ROOT / "CMakeLists.txt").read_text("utf-8")))
    assert any(word.startswith("-DONEBIT_") for words in shown for word in words)
    for words in shown:
        for word, after in zip(words, [*words[1:], ""], strict=True):
            if word == "-S":
                assert (pages.ROOT / after / "CMakeLists.txt").is_file()
            if word.startswith("-DONEBIT_"):
                assert word[2:].partition("=")[0] in known, word


def test_programs_that_are_built_have_these_names():
    sources = [
        pages.ROOT / "CMakeLists.txt",
        *pages.ROOT.glob("e*/*/CMakeLists.txt"),
        *pages.ROOT.glob("engine/fuzz/*.py"),
    ]
    built = "".join(path.read_text("utf-8") for path in sources)
    shown = {Path(line.split()[0]).name for line in LINES if re.match(r"build/[\w-]+/\w+( |$)", line)}
    assert shown >= {"engine_tests", "classify", "generate"}
    for name in shown:
        assert re.search(rf"\b{name}\b", built), name
