"""What pages say can be typed, followed and read: commands parse, links lead somewhere, sentences are short."""

import re
import shlex
from argparse import ArgumentParser, _SubParsersAction
from itertools import takewhile
from pathlib import Path

import pages
import pytest

from onebit.cli.main import build_parser
from onebit.cli.recipe_keys import parse_keys

PAGES = pytest.mark.parametrize("page", [*pages.PAGES, *pages.NOTEBOOKS], ids=pages.name_of)
COMMANDS = [command for page in pages.PAGES for command in pages.commands(page)]
LONGEST_SENTENCE = 30  # words
# Lists that commands print and pages repeat: what another library was built with, how a reproduction was scaled.
PRINTED = re.compile(r"CPU : SSE3 = 1|^Scale F = 0\.")

# Phrases that have to be translated before they are understood, and what to write instead.
ODD = {
    r"\bbeside\b": "compared with, next to",
    r"\bbehind\b": "after, worse than",
    r"\b(?:is|are|was|were) (?:no|none)\b(?! longer| more| \w+er\b)": "is not a",
    r"\bfor people\b": "leave it out",
}


def parsers() -> dict[str, ArgumentParser]:
    (subparsers,) = (action for action in build_parser()._actions if isinstance(action, _SubParsersAction))
    return dict(subparsers.choices)


def examples_of_help() -> list[pages.Command]:
    """The examples that end the help of each command; what they do stands after some blanks."""
    lines = [(name, line.strip()) for name, p in parsers().items() for line in (p.epilog or "").splitlines()]
    shown = [(name, re.split(r"\s{2,}", line)[0]) for name, line in lines if line.startswith("onebit ")]
    words = [takewhile(lambda word: word not in ("|", ">"), shlex.split(line)[1:]) for _, line in shown]
    return [pages.Command(tuple(w), f"onebit {n} --help", line) for w, (n, line) in zip(words, shown, strict=True)]


def recipe_keys() -> set[str]:
    from onebit.training.recipe import KINDS, short_names

    keys = [short_names(recipe) for recipe in KINDS.values()]
    return {name for names in keys for name, key in names.items() for name in (name, f"{key.section}.{key.name}")}


def test_there_are_commands_to_check():
    assert {command.words[0] for command in COMMANDS} == set(parsers())
    assert {command.words[0] for command in examples_of_help()} == set(parsers())


@pytest.mark.parametrize("command", [*COMMANDS, *examples_of_help()], ids=str)
def test_every_command_parses(command, capsys):
    try:
        args, rest = build_parser().parse_known_args(command.words)
    except SystemExit:
        pytest.fail(f"{command}\n{capsys.readouterr().err}")
    if not getattr(args, "takes_recipe_keys", False):
        assert rest == []
        return
    keys = parse_keys(rest)
    assert {key for key in keys if not key.startswith("scheme.")} <= recipe_keys()
    if command.words[0] == "train":
        from onebit.training import load_recipe

        load_recipe(args.recipe).override(keys, "train")


def test_recipes_that_pages_show_can_be_read(tmp_path):
    from onebit.training import load_recipe

    shown = [block for page in pages.PAGES for block in pages.blocks(page) if block.language == "yaml"]
    assert shown
    for block in shown:
        (tmp_path / "shown.yaml").write_text(block.text, "utf-8")
        assert load_recipe(tmp_path / "shown.yaml").to_dict()


@PAGES
def test_commands_within_text_exist(page):
    known = parsers()
    for span in pages.code_spans(page):
        words = span.split()
        if words[:1] == ["onebit"] and len(words) > 1:
            assert words[1] in known, span
            flags = {word.partition("=")[0] for word in words if word.startswith("--")}
            keys = {f"--{key}" for key in recipe_keys()} if words[1] in ("train", "reproduce") else set()
            shown = keys | {key.replace("_", "-") for key in keys} | set(known[words[1]]._option_string_actions)
            assert flags <= shown, span


@PAGES
def test_targets_of_make_and_programs_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (pages.ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in pages.shell_lines(page) + pages.code_spans(page):
        words = line.split("#")[0].split()
        if words[:1] == ["make"] and len(words) > 1:
            assert words[1] in targets, line
        if words[:1] == ["python"] and len(words) > 1 and words[1].endswith(".py"):
            assert (pages.ROOT / words[1]).is_file(), line


@PAGES
def test_links_lead_somewhere(page):
    for target in pages.links(page):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(pages.ROOT), target
        if anchor:
            assert anchor in pages.anchors(file), target


@PAGES
def test_anchors_are_distinct(page):
    found = pages.anchors(page)
    assert len(found) == len(set(found))


def test_every_page_is_in_the_index():
    index = {Path(target.partition("#")[0]).name for target in pages.links(pages.ROOT / "docs" / "README.md")}
    assert {page.name for page in [*pages.PAGES, *pages.NOTEBOOKS]} <= index | {"README.md"}


@PAGES
def test_sentences_are_short(page):
    paragraphs = pages.paragraphs(page)
    assert paragraphs
    for paragraph in paragraphs:
        for sentence in pages.sentences(paragraph):
            if not PRINTED.search(sentence):
                assert len(sentence.split()) <= LONGEST_SENTENCE, sentence


def test_what_programs_print_is_there():
    texts = [paragraph for page in pages.PAGES for paragraph in pages.paragraphs(page)]
    assert sum(bool(PRINTED.search(text)) for text in texts) >= 3


@PAGES
@pytest.mark.parametrize("odd", ODD)
def test_plain_words(page, odd):
    found = re.search(rf"[^.|\n]*{odd}[^.|\n]*", pages.text_of(page), re.IGNORECASE)
    assert found is None, f"{found and found[0]!r}: write {ODD[odd]}"
