"""The program that renders templates of chats, a process of its own with limits: `onebit.chat_template` starts it, by this file's name.

A template is a program of strangers. In Jinja's sandbox it still multiplies texts, counts and calls itself: only a system's limits end all of that.
It reads a line of JSON and answers with one. It imports nothing of this package, so that it starts quickly.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any


class _Refused(Exception):
    """What the template says itself, or what is too much."""


def _refuse(message: object) -> None:
    raise _Refused(f"refuses these messages: {message}")


def _to_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own escapes what HTML needs.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(8)
def _compiled(source: str) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return environment.from_string(source)


def _render(template: str, given: dict[str, Any], most_characters: int) -> str:
    parts: list[str] = []
    length = 0
    for part in _compiled(template).generate(**given):
        parts.append(part)
        length += len(part)
        if length > most_characters:
            raise _Refused(f"writes more than {most_characters} characters")
    return "".join(parts)


def _answer(render: Callable[[], str]) -> dict[str, str]:
    try:
        return {"text": render()}
    except _Refused as error:
        return {"refused": str(error)[:1000]}
    except MemoryError:
        return {"refused": "takes too much memory"}
    except Exception as error:  # it may raise anything, and Python's own compiler too
        return {"refused": f"does not work: {error}"[:1000]}


def main() -> None:
    """Answer until the input ends."""
    settings = json.loads(sys.stdin.readline())
    sys.path[:] = settings["path"]
    import jinja2.sandbox  # noqa: F401  before the limit, which then holds for templates alone

    resource.setrlimit(resource.RLIMIT_AS, (settings["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        asked = json.loads(line)
        # Its signal ends the process also inside of a single call that takes long.
        signal.setitimer(signal.ITIMER_PROF, settings["seconds"])
        answer = _answer(lambda: _render(asked["template"], asked["given"], asked["most_characters"]))  # noqa: B023
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
