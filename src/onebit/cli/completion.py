"""`onebit completion`: print the script by which a shell completes commands and flags."""

from __future__ import annotations

import argparse
from importlib import resources
from typing import Any

from onebit.cli import arguments

EXAMPLES = """examples:
  onebit completion bash > ~/.local/share/bash-completion/completions/onebit
  onebit completion zsh > ~/.zsh/completions/_onebit            a folder of $fpath
  onebit completion fish > ~/.config/fish/completions/onebit.fish
  eval "$(onebit completion bash)"                              for this shell only; of zsh too

Needs: pip install "onebit[terminal]"
"""
SHELLS = ("bash", "zsh", "fish")
FILES = ("INPUT", "DATA", "RUN_OR_FILE", "data")
FOLDERS = ("DIR", "RUN")


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "completion",
        run,
        EXAMPLES,
        help="complete the command's words in bash, zsh or fish",
        description="Print a script by which a shell completes commands, flags, recipes with their keys, and files.",
    )
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    import shtab

    from onebit.cli.commands import build_parser

    parser = build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    # Every key of a recipe is a flag. The parser itself does not know these flags.
    for key in _recipe_keys():
        commands.choices["train"].add_argument(f"--{key.replace('_', '-')}", metavar="VALUE", help="key of a recipe")
    for listed in commands._choices_actions:
        commands.choices[listed.dest].description = listed.help  # the list in zsh shows descriptions, which are long
    # zsh takes a pattern in brackets, as shtab writes it, for conditions on the files.
    packed = shtab.glob("*.onebit") | {"zsh": "_files -g '*.onebit'"}
    for action in [action for command in commands.choices.values() for action in command._actions]:
        if action.choices is not None:
            action.choices = list(action.choices)  # shtab takes a dictionary for commands
        name: Any = action.metavar or action.dest
        if name == "RECIPE":
            action.choices = _recipes()
        elif name == "FILE":
            action.complete = packed  # type: ignore[attr-defined]
        elif name in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif name in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, args.shell))
    return 0


def _recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    names = [file.name for file in resources.files("onebit.recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _recipe_keys() -> list[str]:
    """The short names of all keys; none without the extra "train", as nothing is trained then."""
    try:
        from onebit.training.recipe import KINDS, short_names
    except ImportError:
        return []
    return sorted({name for recipe in KINDS.values() for name in short_names(recipe)})
