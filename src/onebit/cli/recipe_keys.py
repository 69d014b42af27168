"""Keys of a recipe as flags."""

from __future__ import annotations

from typing import Any

# Keys whose values are paths: `--data 2024` means a folder.
PATHS = ("data", "validation_data", "teacher", "warm_start")


def parse_keys(words: list[str], where: str = "train") -> dict[str, Any]:
    """Flags that are keys of a recipe, `--key value` or `--key=value`, to their values."""
    from onebit.errors import RecipeError, shown
    from onebit.training.recipe import parse_text

    values: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise RecipeError(f"[{where}] {shown(word)}: flags look like --epochs 5")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"[{where}] --{key[:80]} lacks its value, as in --{key} VALUE")
            text = rest.pop(0)
        name = key.replace("-", "_")
        values[name] = text if name in PATHS else parse_text(text)
    return values
