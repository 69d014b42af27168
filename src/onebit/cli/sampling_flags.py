"""The flags that choose the tokens of a text, for all commands that write."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from onebit.sampling import Sampling

__all__ = ("add", "chosen")


def add(parser: Any) -> None:
    """How tokens are chosen, and which texts end the answer."""
    text = "randomness; 0 always takes the most probable token (default %(default)s)"
    parser.add_argument("--temperature", type=float, metavar="T", help=text)
    parser.add_argument("--top-k", type=int, metavar="K", help="sample from the K most probable tokens")
    text = "sample from the most probable tokens with total probability P (default %(default)s; 1 is all)"
    parser.add_argument("--top-p", type=float, metavar="P", help=text)
    text = "sample from tokens with at least the share P of the most probable one's probability"
    parser.add_argument("--min-p", type=float, metavar="P", help=text)
    text = "a number above 1 makes repetition less likely"
    parser.add_argument("--repetition-penalty", type=float, metavar="R", help=text)
    text = "is taken from the logits of tokens that were written already"
    parser.add_argument("--presence-penalty", type=float, metavar="X", help=text)
    parser.add_argument("--seed", type=int, help="a fixed seed gives the same text each time")
    parser.set_defaults(**vars(Sampling()))
    parser.add_argument("--stop", action="append", metavar="TEXT", help="stop at this text; may be given several times")


def chosen(args: argparse.Namespace) -> Sampling:
    """What the flags say, without the texts that stop. Raises OnebitError if one is out of range."""
    return Sampling(**{field.name: getattr(args, field.name) for field in fields(Sampling)})
