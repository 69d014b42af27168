"""The threads of the engine, which sessions may share."""

from __future__ import annotations

from onebit.errors import OnebitError
from onebit.processors import cores

MOST_THREADS = 256


class ThreadPool:
    """Threads that several sessions share, given to each as `load`'s `threads`.

    Sessions of one pool take turns, in the order in which they were called, and give the bits that they would give with as many threads of their
    own. The pool's threads end when neither the pool nor a session of it is left.

    Args:
        threads: 1 to 256, the thread that calls a session included; default one for each core.
        pin_threads: keeps each thread that the pool starts on a core of its own, where the system offers that.

    Raises:
        OnebitError: an argument is out of range, or the system gives no more threads.

    Example:
        >>> pool = onebit.ThreadPool(2)
        >>> digits, books = onebit.load("digits.onebit", threads=pool), onebit.load("books", threads=pool)
        >>> digits.threads, books.threads
        (2, 2)
    """

    def __init__(self, threads: int | None = None, pin_threads: bool = False) -> None:
        threads = thread_count(threads, "ThreadPool")
        if not isinstance(pin_threads, bool):
            raise OnebitError(f"[ThreadPool] pin_threads={pin_threads!r}: use True or False")
        from onebit._engine import ThreadPool as Pool

        try:
            self._pool = Pool(threads, pin_threads)
        except RuntimeError as error:
            raise OnebitError(f"[ThreadPool] threads={threads}: {error}: use fewer") from None

    @property
    def threads(self) -> int:
        """How many threads there are, the caller's included."""
        return int(self._pool.threads)

    def __repr__(self) -> str:
        return f"ThreadPool(threads={self.threads})"


def thread_count(threads: object, place: str) -> int:
    """A number of threads, checked; one for each core where it is None."""
    if threads is None:
        return cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise OnebitError(f"[{place}] threads={threads!r}: use 1 to {MOST_THREADS}, or None for one for each core")
    return threads
