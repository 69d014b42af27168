"""The keys of recipes as a table: for the command's help and for docs/training.md, from the declarations alone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onebit.training.recipe.images import ImageRecipe
from onebit.training.recipe.recipe import Recipe, sections_of, short_names
from onebit.training.recipe.section import Key, Section
from onebit.training.recipe.text import TextRecipe

KINDS: tuple[type[Recipe], ...] = (ImageRecipe, TextRecipe)


@dataclass(frozen=True)
class Row:
    """A key, for recipes of one kind or of both.

    Args:
        key: as its section declares it.
        kind: "images", "text", or empty for both.
    """

    key: Key
    kind: str

    @property
    def flag(self) -> str:
        """How the command spells it."""
        return "--" + self.key.short.replace("_", "-")


def rows(section: str) -> list[Row]:
    """The keys of a section: those that all kinds have alike, then those of each kind."""
    declared = {kind: [key for key in short_names(kind).values() if key.section == section] for kind in KINDS}
    first, *others = declared.values()
    shared = [key for key in first if all(key in keys for keys in others)]
    own = [Row(key, kind.kind) for kind, keys in declared.items() for key in keys if key not in shared]
    return [Row(key, "") for key in shared] + own


def help_text(recipe: Recipe | None, width: int) -> str:
    """The keys with their meaning, default and limits, as lines for a terminal.

    Args:
        recipe: whose keys and values to show; None: the keys of all kinds, with their defaults.
        width: of the terminal, in characters.
    """
    values = None if recipe is None else recipe.flat()
    kinds = None if recipe is None else ("", recipe.kind)
    lines = []
    for name, section in sections_of(KINDS[0]).items():
        lines += ["", f"{name}: {_about(section)}"]
        for row in rows(name):
            if kinds is None or row.kind in kinds:
                lines += _lines(row, values, width)
    lines += ["", "A key may be given with its section too, as in --schedule.epochs 3 or --scheme.weights 1."]
    return "\n".join(lines[1:])


def _lines(row: Row, values: Mapping[str, Any] | None, width: int) -> list[str]:
    key = row.key
    value = f"default {plain(key.default)}" if values is None else f"here {plain(values[key.short])}"
    facts = "; ".join(filter(None, (f"{row.kind} only" if row.kind and values is None else "", key.values, value)))
    margin = " " * 26
    start = f"  {row.flag}"
    start = start.ljust(26) if len(start) < 25 else f"{start}\n{margin}"
    text = textwrap.fill(
        f"{key.meaning} ({facts})", max(40, width - 26), break_long_words=False, break_on_hyphens=False
    )
    return [start + text.replace("\n", "\n" + margin)]


def markdown() -> str:
    """The keys of all kinds as tables of a page, one for each section."""
    parts = []
    for name, section in sections_of(KINDS[0]).items():
        lines = [f"### {name}", "", _about(section), ""]
        lines += ["| key | for | default | values | meaning |", "| --- | --- | --- | --- | --- |"]
        for row in rows(name):
            key = row.key
            cells = (f"`{key.short}`", row.kind or "all", f"`{plain(key.default)}`", key.values, key.meaning)
            lines.append(f"| {' | '.join(cell.replace('|', ', ') for cell in cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def plain(value: Any) -> str:
    """A value as a flag is given it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return ",".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _about(section: type[Section]) -> str:
    """What a section of any kind is about."""
    shared = next(one for one in reversed(section.__mro__) if one not in (object, Section))
    return (shared.__doc__ or "").split("\n")[0]


if __name__ == "__main__":
    print(markdown(), end="")
