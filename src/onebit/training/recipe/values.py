"""A key's value as its type wants it, and types in a user's words."""

from __future__ import annotations

import math
import types
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from onebit.errors import RecipeError, shown

# What version 0.1.0 and packed files call the values of bits; YAML reads an unquoted 01 as the number 1.
OLD_WORDS = {"01": "unipolar", 1: "unipolar", "pm1": "bipolar"}


def fitting(key: str, value: Any, hint: Any) -> Any:
    """A key's value as the type `hint`; raises RecipeError."""
    try:
        return _coerce(value, hint)
    except OverflowError:
        raise RecipeError(f"{key}={shown(value)}: needs a smaller number") from None
    except (TypeError, ValueError):
        raise RecipeError(f"{key}={shown(value)}: needs {describe_type(hint)}") from None


def require(holds: bool, key: str, value: Any, allowed: str) -> None:
    """Raise RecipeError where a value is not one of those allowed."""
    if not holds:
        raise RecipeError(f"{key}={shown(value)}: use {allowed}")


def describe_type(hint: Any) -> str:
    """A type in a user's words."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe_type(a) for a in arguments)
    if get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in arguments)
    if get_origin(hint) is tuple:
        what = "texts" if arguments[0] is str else "integers"
        return f"a list of {what if arguments[-1] is Ellipsis else f'{len(arguments)} {what}'}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names[hint]


def _coerce(value: Any, hint: Any) -> Any:
    """`value` as the type `hint`, with no guessing beyond a text that spells a number."""
    if isinstance(value, np.generic):
        value = value.item()
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return _first_that_fits(value, arguments)
    if get_origin(hint) is Literal:
        return _word(value, arguments)
    if get_origin(hint) is tuple:
        return _list(value, arguments)
    if hint is type(None):
        if value is None or value == "none":
            return None
        raise ValueError
    if isinstance(value, int) and abs(value) >= 1 << 63:  # beyond what counts, sizes and seeds are kept in
        raise OverflowError
    if hint is float:
        # YAML 1.1 reads 1e-3 as a text.
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not math.isfinite(float(value)):
            raise ValueError
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError
    return value


def _first_that_fits(value: Any, hints: tuple[Any, ...]) -> Any:
    for hint in sorted(hints, key=lambda a: a is str):  # a list is never meant as a text
        try:
            return _coerce(value, hint)
        except (TypeError, ValueError):
            continue
    raise ValueError


def _word(value: Any, words: tuple[Any, ...]) -> Any:
    if isinstance(value, str | int) and not isinstance(value, bool):
        for word in (value, OLD_WORDS.get(value)):
            if word in words:
                return word
    raise ValueError


def _list(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    endless = arguments[-1] is Ellipsis
    if isinstance(value, arguments[0]) and not isinstance(value, bool):
        value = [value] * (1 if endless else len(arguments))
    if not isinstance(value, (list, tuple)) or not (endless or len(value) == len(arguments)):
        raise TypeError
    return tuple(_coerce(v, arguments[0]) for v in value)
