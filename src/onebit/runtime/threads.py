"""The engine's threads, which sessions may share."""

from __future__ import annotations

from onebit.errors import OnebitError
from onebit.processors import cores

MOST_THREADS = 256


class ThreadPool:
    """Threads that several sessions share. Pass the pool to `load` as `threads`.

    Sessions of one pool take turns, in the order of their calls. Their results are bit for bit the same as with as many threads of their own. The
    pool's threads end when the pool and its last session are gone.

    Args:
        threads: 1 to 256, including the thread that calls a session. The default is one per core.
        pin_threads: keep each thread that the pool starts on its own core, if the system supports that.

    Raises:
        OnebitError: an argument is out of range, or the system cannot start more threads.

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
        """The number of threads, including the caller's."""
        return int(self._pool.threads)

    def __repr__(self) -> str:
        return f"ThreadPool(threads={self.threads})"


def thread_count(threads: object, place: str) -> int:
    """The checked number of threads. None becomes one per core."""
    if threads is None:
        return cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise OnebitError(f"[{place}] threads={threads!r}: use 1 to {MOST_THREADS}, or None for one per core")
    return threads
