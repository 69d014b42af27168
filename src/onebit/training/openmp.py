"""How PyTorch's threads wait for each other on a processor that other programs use too."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

from onebit.processors import cores

# A user who has chosen how OpenMP waits is not overruled.
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class _Parked(threading.Thread):
    """A thread that owns an idle pool of OpenMP threads until it is told to leave."""

    def __init__(self) -> None:
        super().__init__(name="onebit-openmp", daemon=True)
        self._ready = threading.Event()
        self._left = threading.Event()

    def run(self) -> None:
        # Large enough to be shared out, so that this thread gets a pool of its own.
        torch.ones(1 << 20).add_(1)
        self._ready.set()
        self._left.wait()

    def park(self) -> None:
        self.start()
        self._ready.wait()

    def leave(self) -> None:
        self._left.set()
        self.join()


_parked: list[_Parked] = []


def use_threads(count: int) -> None:
    """Let PyTorch compute with so many threads, which sleep while they wait for each other.

    Between two operations the threads of GNU's OpenMP spin for about ten milliseconds. On a processor that other programs use too, a thread that
    spins takes the turn of the one that it waits for: a training step on two threads then takes ten times as long as on one. The time is read
    from the environment when PyTorch is loaded, which is too late here. But the library stops spinning almost at once while it manages more
    threads than there are processors (its manual, "GOMP_SPINCOUNT"). So this starts threads that own idle pools, until there are more: they
    sleep, and take no time. PyTorch's own number of threads stays, and with it every result.

    Args:
        count: threads of one operation, 1 or more.
    """
    torch.set_num_threads(count)
    if count < 2 or any(name in os.environ for name in CHOICES):
        return
    # A process that was forked has none of its parent's threads.
    _parked[:] = [thread for thread in _parked if thread.is_alive()]
    while 1 + (1 + len(_parked)) * (count - 1) <= cores():
        _park()


@contextlib.contextmanager
def threads_in_use(count: int) -> Iterator[None]:
    """`use_threads` for as long as the body runs."""
    before, parked = torch.get_num_threads(), list(_parked)
    use_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        for thread in [thread for thread in _parked if thread not in parked]:
            _parked.remove(thread)
            thread.leave()


def _park() -> None:
    thread = _Parked()
    thread.park()
    _parked.append(thread)
