"""The flags of a conversion's training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebit.distilling import Training

__all__ = ("add", "chosen")
# Their names, types and texts; the defaults are those of `Training`.
_FLAGS: tuple[tuple[str, type, str], ...] = (
    ("window", int, "tokens of an example"),
    ("calibration", int, "examples that blocks are rounded and trained on; 0 leaves that out"),
    ("block-steps", int, "steps for each block; 0 leaves them as rounding made them"),
    ("block-batch", int, "examples of a step of a block"),
    ("block-rate", float, "highest learning rate of a block"),
    ("steps", int, "steps of the whole network"),
    ("batch", int, "examples of a step of the whole network"),
    ("rate", float, "highest learning rate of the whole network"),
    ("weight", float, "weight of the teacher's logits; the text has the rest (default 1; 0 for float masters)"),
    ("temperature", float, "of both networks' logits"),
    ("minutes", float, "end the whole network's training after so long, with its schedule"),
    ("seed", int, "of the order of the text"),
)


def add(parser: Any) -> None:
    """Add them to a parser, in a group of their own."""
    training = parser.add_argument_group("training")
    for name, kind, says in _FLAGS:
        training.add_argument(f"--{name}", type=kind, metavar="N", help=says)
    says = "layers whose outputs learn from the teacher's too"
    training.add_argument("--features", nargs="+", metavar="LAYER", help=says)


def chosen(args: argparse.Namespace) -> Training:
    """What the flags say. Raises OnebitError if one is out of range."""
    from onebit.distilling import Training

    names = [name.replace("-", "_") for name, _, _ in _FLAGS]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.features:
        given["features"] = tuple(args.features)
    return Training(**given)
