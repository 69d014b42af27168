"""Flags of a command that are keys of a recipe."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from typing import Any

# The values of these keys are paths: `--data 2024` means a folder.
PATHS = ("data", "data.source", "validation_data", "teacher", "teacher.run", "warm_start")


def parse_keys(words: list[str], where: str = "train") -> dict[str, Any]:
    """The values of recipe keys that are given as flags: `--epochs 3`, `--epochs=3` or, with the section, `--schedule.epochs 3`."""
    from onebit.errors import RecipeError, shown
    from onebit.training.recipe import parse_text

    values: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise RecipeError(f"[{where}] {shown(word)} is not a flag; give keys of the recipe as in --epochs 5")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"[{where}] --{key[:80]} needs a value, as in --{key} VALUE")
            text = rest.pop(0)
        name = key.replace("-", "_")
        path = name in PATHS or name.partition(".")[2] in PATHS
        values[name] = text if path else parse_text(text)
    return values


class HelpWithKeys(argparse.Action):
    """The usual help, and the keys of recipes."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        try:
            keys = _keys(getattr(namespace, "recipe", None))
        except ImportError:
            keys = '(the keys of recipes are listed where training is installed: pip install "onebit[train]")'
        parser.print_help()
        print(f"\n{keys}")
        parser.exit()


def _keys(name: str | None) -> str:
    from onebit.training.recipe import load_recipe
    from onebit.training.recipe.table import help_text

    width = min(120, shutil.get_terminal_size().columns)
    return help_text(None if name is None else load_recipe(name), width)
