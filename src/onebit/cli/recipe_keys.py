"""Flags of a command that are keys of a recipe."""

from __future__ import annotations

from typing import Any

# The values of these keys are paths: `--data 2024` means a folder.
PATHS = ("data", "validation_data", "teacher", "warm_start")


def parse_keys(words: list[str], where: str = "train") -> dict[str, Any]:
    """The values of recipe keys that are given as flags, `--key value` or `--key=value`."""
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
        values[name] = text if name in PATHS else parse_text(text)
    return values
