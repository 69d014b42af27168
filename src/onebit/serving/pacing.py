"""Evens out when tokens reach their clients, where texts take turns of several tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from onebit.serving.job import Event, Job


class Pacing:
    """Holds the later tokens of a turn back until half of the other texts had theirs."""

    def __init__(self) -> None:
        self._turn = 0
        self._held: deque[tuple[int, list[Event]]] = deque()

    def hold(self, events: list[Event], turns: int) -> None:
        """Hold events back for so many turns."""
        self._held.append((self._turn + turns, events))

    def begin(self, jobs: Collection[Job]) -> list[Event]:
        """Begin a turn of some texts. Returns the events whose time has come, and all earlier ones of these texts."""
        self._turn += 1
        chosen = set(jobs)
        ready: list[Event] = []
        count = 0
        for place, (turn, events) in enumerate(self._held, 1):
            if turn <= self._turn or any(event.job in chosen for event in events):
                count = place
        for _ in range(count):
            ready += self._held.popleft()[1]
        return ready

    def all(self) -> list[Event]:
        """All events that are held back, which are not held any more."""
        ready = [event for _, events in self._held for event in events]
        self._held.clear()
        return ready
