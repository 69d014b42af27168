"""A command only parses and prints; the library does the work. So its file is short."""

from pathlib import Path

import pytest

from onebit.cli import commands

FILES = sorted(Path(commands.__file__).parent.glob("*.py"))
MOST_LINES = 80
# What is longer, with its lines: these may only become fewer.
LONGER = {"streams.py": 98}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_short(file):
    lines = len(file.read_text("utf-8").splitlines())
    assert lines <= LONGER.get(file.name, MOST_LINES)
    assert file.name not in LONGER or MOST_LINES < lines == LONGER[file.name], "write the smaller number"


def test_each_command_is_in_the_list():
    files = {file.stem for file in FILES if "def add_parser(" in file.read_text("utf-8")}
    assert files == set(commands.COMMANDS)
    for name, module in commands.COMMANDS.items():
        assert module.__name__ == f"onebit.cli.{name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_command_reaches_into_a_session(file):
    assert "._engine" not in file.read_text("utf-8")
