"""The fields of a request's JSON, each with its type and its limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from onebit.errors import shown
from onebit.serving.refusal import Refusal


def read_json(body: bytes) -> Fields:
    """The fields of a body that is a JSON object. Raises Refusal if it is not one."""
    try:
        values = json.loads(body, parse_constant=_no_number)
    except RecursionError:
        raise Refusal(400, "the body is nested too deep: no request needs hundreds of levels") from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise Refusal(400, f"the body is not JSON: {shown(str(error))}; send a JSON object") from None
    if not isinstance(values, dict):
        raise Refusal(400, f"the body is {_kind(values)}: send a JSON object")
    return Fields(values)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is not a value")


class Fields:
    """The members of a JSON object. A member that is null counts as absent.

    Each method returns a member, or its default if it is absent, and raises Refusal if it has another type or is out of range.
    """

    def __init__(self, values: dict[str, Any], where: str = "") -> None:
        self._values, self._where = values, where

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def raw(self, name: str, default: Any = None) -> Any:
        """A member of any type."""
        value = self._values.get(name)
        return default if value is None else value

    def fail(self, name: str, needed: str) -> Refusal:
        """The refusal of a member's value."""
        return Refusal(400, f"{self._where}{name}={shown(self._values.get(name))}: {needed}", self._where + name)

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        value = self.raw(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JavaScript does not distinguish them
        if type(value) is not int or not least <= value <= most:
            raise self.fail(name, f"use an integer from {least} to {most}")
        return value

    def number(self, name: str, default: float | None, least: float, most: float) -> float | None:
        value = self.raw(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise self.fail(name, f"use a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.raw(name, False)
        if not isinstance(value, bool):
            raise self.fail(name, "use true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self.raw(name, default)
        if not isinstance(value, str):
            raise self.fail(name, "give a text")
        return value

    def word(self, name: str, default: str, allowed: Sequence[str]) -> str:
        value = self.raw(name, default)
        if value not in allowed:
            raise self.fail(name, f"use {' or '.join(map(repr, allowed))}")
        return str(value)

    def texts(self, name: str, most: int) -> list[str]:
        """A text, or a list of at most `most` texts."""
        value = self.raw(name, [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or len(texts) > most or not all(isinstance(text, str) for text in texts):
            raise self.fail(name, f"give a text or a list of at most {most} texts")
        return texts

    def inner(self, name: str) -> Fields:
        """A member that is an object; an empty one where it is absent."""
        value = self.raw(name, {})
        if not isinstance(value, dict):
            raise self.fail(name, "give an object")
        return Fields(value, f"{self._where}{name}.")

    def refuse(self, names: Sequence[str], neutral: Sequence[Any] = (0, False, [], {}, "", "none", "auto")) -> None:
        """Refuse members that ask for what this server does not do."""
        for name in names:
            if name in self and self._values[name] not in neutral:
                raise self.fail(name, "this server does not have it; leave it out")


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}
    return kinds.get(type(value), "null")
