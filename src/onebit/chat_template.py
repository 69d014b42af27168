"""Messages of a chat as the text that a model continues: its own template in Jinja, in the sandbox that transformers sets up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from onebit.errors import DataError
from onebit.printable import one_line

MOST_CHARACTERS = 1 << 20
# All loops over ranges of one text together. The sandbox limits each range alone.
_MOST_STEPS = 100_000


def render(template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str] | None = None) -> str:
    """The text of messages, ending where the assistant's answer begins.

    Args:
        template: in Jinja. It may read nothing but what it is given.
        messages: each with a role and a content.
        tokens: names of special tokens that templates use: ``bos_token`` and ``eos_token``.

    Raises:
        DataError: jinja2 is not installed, or the template is wrong, refuses the messages, loops or writes without end.
    """
    try:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise DataError("[chat] templates of chats need jinja2: pip install jinja2") from None
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now, "range": _Ranges()}
    given = {"bos_token": "", "eos_token": "", **(tokens or {})}
    parts: list[str] = []
    length = 0
    try:
        compiled = environment.from_string(template)
        for part in compiled.generate(messages=list(messages), add_generation_prompt=True, **given):
            parts.append(part)
            length += len(part)
            if length > MOST_CHARACTERS:
                raise DataError(f"[chat] the model's template writes more than {MOST_CHARACTERS} characters")
    except DataError:
        raise
    except Exception as error:  # a template is code of strangers: it may raise anything, and Python's own compiler too
        raise DataError(f"[chat] the model's template does not work: {one_line(error)[:200]}") from None
    return "".join(parts)


class _Ranges:
    """`range` with a limit on all steps together."""

    def __init__(self) -> None:
        self._steps = 0

    def __call__(self, *args: int) -> range:
        found = range(*args)
        self._steps += len(found)
        if self._steps > _MOST_STEPS:
            raise DataError(f"[chat] the model's template loops more than {_MOST_STEPS} times")
        return found


def _refuse(message: object) -> None:
    raise DataError(f"[chat] the model's template refuses these messages: {one_line(message)[:200]}")


def _to_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own escapes what HTML needs.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
