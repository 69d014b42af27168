"""A command only parses and prints; the library does the work. So its file is short."""

from pathlib import Path

import pytest

from onebit.cli import commands

FILES = sorted(Path(commands.__file__).parent.glob("*.py"))
MOST_LINES = 80


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_short(file):
    assert len(file.read_text("utf-8").splitlines()) <= MOST_LINES


def test_each_command_is_in_the_list():
    files = {file.stem for file in FILES if "def add_parser(" in file.read_text("utf-8")}
    assert files == set(commands.COMMANDS)
    for name, module in commands.COMMANDS.items():
        assert module.__name__ == f"onebit.cli.{name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_command_reaches_into_a_session(file):
    assert "._engine" not in file.read_text("utf-8")
