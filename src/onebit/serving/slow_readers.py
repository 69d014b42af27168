"""Cuts connections of clients that leave their answers unread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

# Where the server's protocol puts the function that cuts a connection.
ABORT = "onebit.abort"


class Sending:
    """An answer that is being sent. `since` is the time since which its client has not taken a piece, or None."""

    def __init__(self, abort: Callable[[], None] | None, task: asyncio.Task[Any] | None) -> None:
        self.since: float | None = None
        self._abort, self._task = abort, task

    def cut(self) -> None:
        """Cut the connection."""
        if self._abort is not None:
            self._abort()
        elif self._task is not None:
            self._task.cancel()


class SlowReaders:
    """Looks at all answers that are being sent, and cuts those that wait for their clients for too long.

    One look at all of them costs less than a timer for every token.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: set[Sending] = set()
        self.cut = 0  # how many were cut

    @contextlib.contextmanager
    def watch(self, scope: Any) -> Iterator[Sending]:
        """Watch an answer for as long as the block runs."""
        sending = Sending(scope.get(ABORT), asyncio.current_task())
        self._open.add(sending)
        try:
            yield sending
        finally:
            self._open.discard(sending)

    async def run(self) -> None:
        """Look at all answers again and again, until the task is cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._seconds / 4))
            limit = time.monotonic() - self._seconds
            for sending in list(self._open):
                if sending.since is not None and sending.since < limit:
                    self.cut += 1
                    sending.cut()
