"""Read JSON as the engine does: refuse everything on which JSON readers disagree. docs/program.md, "JSON", lists it."""

from __future__ import annotations

import json
import re
from typing import Any

from onebit.errors import FormatError

MAX_DEPTH = 32
# A value takes far more memory than its text: without a limit, "[0,0,0," would take a hundred times its size.
MAX_VALUES = 1_000_000
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"')


def parse(text: str, what: str) -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        what: a name that begins each error message.

    Raises:
        FormatError: it is not JSON, an object has a name twice, a text contains half a surrogate pair, a number does not fit float64 (too large, or
            so small that it would become 0), it is nested more than 32 deep, or it has more than 1,000,000 values.
    """

    def fail(why: str) -> FormatError:
        return FormatError(f"[{what}] not JSON: {why}; the file is damaged")

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise fail(f"the name {excerpt(twice)} stands twice")
        return members

    def constant(word: str) -> Any:
        raise fail(f"{word} is not a value")

    def real(digits: str) -> float:
        value = float(digits)
        mantissa = re.split("[eE]", digits)[0]
        if value in (float("inf"), float("-inf")) or (value == 0 and re.search("[1-9]", mantissa)):
            raise fail(f"the number {excerpt(digits)} does not fit float64")
        return value

    def whole(digits: str) -> int:
        real(digits)  # this bounds the number of digits too
        return int(digits)

    if _count_is_suspect(text) and _count_values(text) > MAX_VALUES:
        raise fail(f"too many values: more than {MAX_VALUES}")
    try:
        value = json.loads(
            text, object_pairs_hook=object_of, parse_constant=constant, parse_float=real, parse_int=whole
        )
    except FormatError:
        raise
    except RecursionError:
        raise fail(f"nested too deep: more than {MAX_DEPTH}") from None
    except ValueError as error:
        raise fail(str(error)) from None
    _walk(value, fail)
    return value


def excerpt(value: Any, length: int = 60) -> str:
    """A value as an error quotes it: short and on one line."""
    if isinstance(value, str):
        # The `repr` of a text of a million characters is never built.
        value = value[: length + 1]
    text = ascii(value) if isinstance(value, str) and _has_surrogate(value) else repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _count_is_suspect(text: str) -> bool:
    return text.count(",") + text.count("[") + text.count("{") >= MAX_VALUES


def _count_values(text: str) -> int:
    """The number of values in valid JSON: the outermost, one per comma, and one per list or object that is not empty."""
    bare = re.sub(r"\s+", "", _TEXT.sub('"', text))
    return 1 + bare.count(",") + len(re.findall(r"[\[{](?![\]}])", bare))


def _walk(value: Any, fail: Any) -> None:
    """Refuse too deep nesting and half surrogate pairs, level by level."""
    level = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        nested = False
        for item in level:
            if isinstance(item, str):
                if not item.isascii() and _has_surrogate(item):
                    raise fail(f"half a surrogate pair in {item[:40]!a}")
            elif isinstance(item, dict):
                nested = True
                inner.extend(item)
                inner.extend(item.values())
            elif isinstance(item, list):
                nested = True
                inner.extend(item)
        depth += nested
        if depth > MAX_DEPTH:
            raise fail(f"nested too deep: more than {MAX_DEPTH}")
        level = inner
