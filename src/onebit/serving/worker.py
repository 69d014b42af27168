"""A thread that owns a model: what it is asked for waits in a queue of bounded length."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

from onebit.serving.metrics import Metrics
from onebit.serving.refusal import Refusal

Request = TypeVar("Request")


class Worker(ABC, Generic[Request]):
    """Takes requests until it is closed, and finishes them all.

    Args:
        name: of the thread.
        most_waiting: how many requests may wait, as the worker counts them.
        metrics: where it counts.
    """

    def __init__(self, name: str, most_waiting: int, metrics: Metrics) -> None:
        self._most_waiting, self._metrics = most_waiting, metrics
        self._condition = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether there is anything to do."""

    def close(self, wait: bool = True) -> None:
        """Finish what was taken, and end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if wait and self._thread is not threading.current_thread():
            self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """What the thread does."""

    def _check_open(self) -> None:
        """Raise Refusal if the model is being put away. The caller holds the condition."""
        if self._closing:
            raise Refusal(503, "the model is being put away: ask again", headers={"Retry-After": "1"})

    def _full(self, what: str) -> Refusal:
        message = f"{len(self._waiting)} {what} wait already: ask again later"
        return Refusal(429, message, code="queue_full", headers={"Retry-After": "1"})
