"""How far long work has come, for a program that wants to show it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item", covariant=True)


@dataclass(frozen=True)
class Progress:
    """A state of a piece of work.

    Args:
        work: what is done, as "measure".
        done, total: how much of it, in `unit`.
        unit: "images", "texts", "seconds".
    """

    work: str
    done: float
    total: float
    unit: str


class _Items(Sized, Iterable[Item], Protocol[Item]):
    """What has a length and can be gone through."""


Listener = Callable[[Progress], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Call a function with each `Progress` of the work within; what is computed stays the same.

    Example:
        >>> with listen(print):
        ...     report("read", 1, 2, "images")
        Progress(work='read', done=1, total=2, unit='images')
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(work: str, done: float, total: float, unit: str) -> None:
    """Tell who listens how far some work has come."""
    listener = _listener.get()
    if listener is not None:
        listener(Progress(work, done, total, unit))


def track(items: _Items[Item], work: str, unit: str, each: int = 1, total: int | None = None) -> Iterator[Item]:
    """The items, and a report after each of them.

    Args:
        items: of known number.
        work, unit: see `Progress`.
        each: what an item counts for, such as the images of a batch.
        total: of all of them together, where the last one has fewer; default `each` for every item.
    """
    whole = each * len(items) if total is None else total
    for index, item in enumerate(items):
        yield item
        report(work, min(each * (index + 1), whole), whole, unit)
