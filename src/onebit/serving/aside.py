"""Work on long texts, which the server's loop leaves to a thread: other requests must not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Tokenizing so many characters takes about as long as handing them to a thread and back.
_SHORT = 4096


async def aside(characters: int, function: Callable[Given, Result], *args: Given.args, **more: Given.kwargs) -> Result:
    """What a function returns for so many characters or tokens, from a thread if they are many."""
    if characters <= _SHORT:
        return function(*args, **more)
    return await asyncio.to_thread(function, *args, **more)
