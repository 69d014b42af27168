"""Report the progress of long work to programs that show it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item", covariant=True)


@dataclass(frozen=True)
class Progress:
    """The progress of a piece of work.

    Args:
        work: the kind of work, such as "measure".
        done, total: the finished amount and the whole amount, in `unit`.
        unit: "images", "texts" or "seconds".
    """

    work: str
    done: float
    total: float
    unit: str


class _Items(Sized, Iterable[Item], Protocol[Item]):
    """An iterable with a length."""


Listener = Callable[[Progress], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Call a function with each `Progress` of the work inside the block. Results do not change.

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
    """Report progress to the listeners."""
    listener = _listener.get()
    if listener is not None:
        listener(Progress(work, done, total, unit))


def track(items: _Items[Item], work: str, unit: str, each: int = 1, total: int | None = None) -> Iterator[Item]:
    """Yield the items, and report progress after each of them.

    Args:
        items: the items, with a known length.
        work, unit: see `Progress`.
        each: the amount per item, such as the images of a batch.
        total: the amount of all items together, if the last one has less. The default is `each` times the number of items.
    """
    whole = each * len(items) if total is None else total
    for index, item in enumerate(items):
        yield item
        report(work, min(each * (index + 1), whole), whole, unit)
