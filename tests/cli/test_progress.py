"""Progress and colours: on a terminal, without rich, and in a file."""

import importlib.util
import io
import os
import pty
import subprocess
import sys

import pytest

from onebit.cli import bars, progress
from onebit.progress import Progress

RICH = pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="needs rich")


class Stream(io.StringIO):
    """A terminal, or none."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    seconds = [100.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: seconds[0])
    return seconds


def work(show, clock, steps=40, seconds=1.0):
    for done in range(1, steps + 1):
        clock[0] += seconds
        show(Progress("measure", 1000 * done, 1000 * steps, "images"))


def test_a_file_gets_a_line_now_and_then(clock, monkeypatch):
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.listener() as show:
        work(show, clock)
    assert stream.getvalue().splitlines() == [
        "measure: 10,000 of 40,000 images, 30 s left",
        "measure: 20,000 of 40,000 images, 20 s left",
        "measure: 30,000 of 40,000 images, 10 s left",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_done_soon_is_not_shown(terminal, clock, monkeypatch):
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "rich", None)
    with progress.listener() as show:
        work(show, clock, steps=9, seconds=0.1)
    assert stream.getvalue() == ""


def test_without_rich_a_terminal_gets_a_line_that_is_gone_in_the_end(clock, monkeypatch):
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "rich", None)
    with progress.listener() as show:
        work(show, clock, steps=4)
    lines = [f"\rmeasure: {done},000 of 4,000 images, {4 - done} s left\x1b[K" for done in (1, 2, 3)]
    assert stream.getvalue() == "".join([*lines, "\r\x1b[K"])


def in_a_terminal(*words, **variables):
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, *words]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=environment | {"TERM": "xterm", **variables}
    ) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            written += part
    os.close(master)
    assert process.returncode == 0, written
    return written.decode()


@RICH
def test_a_terminal_gets_a_bar_with_the_time_that_is_left():
    program = (
        "import time; from onebit.cli import bars, progress; from onebit.progress import track; bars.WAIT_SECONDS = 0\n"
        "with progress.shown():\n"
        "    for i in track(range(40), 'measure', 'images'): time.sleep(0.02)\n"
        "print('done')"
    )
    written = in_a_terminal("-c", program)
    assert "measure" in written and " of 40 images" in written and "0:00:00" in written and "left" in written
    assert written.rstrip().endswith("done")


@RICH
def test_info_is_coloured_on_a_terminal_only():
    words = ["-m", "onebit", "info", "books-10m"]
    plain = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in plain
    coloured = in_a_terminal(*words)
    assert "\x1b[36m  steps\x1b[0m" in coloured
    without = in_a_terminal(*words, NO_COLOR="1")
    assert without.replace("\r\n", "\n") == plain
