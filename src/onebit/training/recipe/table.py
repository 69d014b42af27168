"""The keys of recipes as a table: for the command's help and for docs/training.md, from the declarations alone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onebit.training.recipe.kinds import KINDS
from onebit.training.recipe.recipe import Recipe, sections_of, short_names
from onebit.training.recipe.section import Key, Section


@dataclass(frozen=True)
class Row:
    """A key, for recipes of some kinds or of all.

    Args:
        key: as its section declares it.
        kinds: their names; empty: all.
    """

    key: Key
    kinds: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kinds in words; empty for all."""
        return ", ".join(self.kinds)

    @property
    def flag(self) -> str:
        """How the command spells it."""
        return "--" + self.key.short.replace("_", "-")


def rows(section: str) -> list[Row]:
    """The keys of a section: those that all kinds have alike, then the others, each with the kinds that declare it alike."""
    declared = {
        name: [key for key in short_names(kind).values() if key.section == section] for name, kind in KINDS.items()
    }
    every: list[Key] = []
    for keys in declared.values():
        every += [key for key in keys if key not in every]
    of = [(key, tuple(name for name, keys in declared.items() if key in keys)) for key in every]
    shared = [Row(key) for key, kinds in of if len(kinds) == len(KINDS)]
    return shared + [Row(key, kinds) for key, kinds in of if len(kinds) < len(KINDS)]


def help_text(recipe: Recipe | None, width: int) -> str:
    """The keys with their meaning, default and limits, as lines for a terminal.

    Args:
        recipe: whose keys and values to show; None: the keys of all kinds, with their defaults.
        width: of the terminal, in characters.
    """
    values = None if recipe is None else recipe.flat()
    lines = []
    for name, section in sections_of(Recipe).items():
        lines += ["", f"{name}: {_about(section)}"]
        for row in rows(name):
            if recipe is None or not row.kinds or recipe.kind in row.kinds:
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
    for name, section in sections_of(Recipe).items():
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
