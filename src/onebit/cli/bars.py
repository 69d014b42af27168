"""A bar of progress on a terminal, and lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, TextIO

from onebit.progress import Listener, Progress

WAIT_SECONDS = 1.0  # before anything is shown: most work is done by then


@contextlib.contextmanager
def bar(stream: TextIO) -> Iterator[Listener]:
    """Shows progress on a terminal, which is as it was in the end: by rich, or without it by a line that is written over."""
    try:
        from rich import progress as rich
        from rich.console import Console
    except ImportError:
        lines = Lines(stream, 0.2, "\r{}\x1b[K")
        yield lines
        if lines.shown:
            stream.write("\r\x1b[K")
            stream.flush()
        return
    texts = [rich.TextColumn("{task.description}"), rich.TextColumn("{task.fields[counts]}")]
    columns = [texts[0], rich.BarColumn(), texts[1], rich.TimeRemainingColumn(), rich.TextColumn("left")]
    options: Any = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
    with rich.Progress(*columns, console=Console(file=stream), **options) as bars:
        yield Bar(bars)


class Bar:
    """A bar of rich for each piece of work; those before it are gone."""

    def __init__(self, bars: Any) -> None:
        self.bars, self.tasks = bars, dict[str, Any]()
        self.began = time.monotonic()

    def __call__(self, state: Progress) -> None:
        if state.work not in self.tasks:
            for task in self.tasks.values():
                self.bars.update(task, visible=False)
            self.tasks[state.work] = self.bars.add_task(state.work, total=state.total, counts="", visible=False)
        late = time.monotonic() - self.began > WAIT_SECONDS
        self.bars.update(self.tasks[state.work], completed=state.done, counts=_counts(state), visible=late)


class Lines:
    """A line with what is done and the time that is left, at most every so many seconds."""

    def __init__(self, stream: TextIO, seconds: float, template: str) -> None:
        self.stream, self.seconds, self.template = stream, seconds, template
        self.work, self.shown = "", False
        self.began = self.heard = time.monotonic()
        self.last = self.began + max(0.0, WAIT_SECONDS - seconds)

    def __call__(self, state: Progress) -> None:
        now = time.monotonic()
        if state.work != self.work:
            self.work, self.began = state.work, self.heard
        self.heard = now
        if now - self.last < self.seconds or not 0 < state.done < state.total:
            return
        self.last, self.shown = now, True
        left = (now - self.began) / state.done * (state.total - state.done)
        self.stream.write(self.template.format(f"{state.work}: {_counts(state)}, {left:,.0f} s left"))
        self.stream.flush()


def _counts(state: Progress) -> str:
    return f"{state.done:,.0f} of {state.total:,.0f} {state.unit}"
