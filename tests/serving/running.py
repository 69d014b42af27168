"""A server in a process of its own, as users start it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

# A small classifier of scikit-learn's digits, which the page of the browser has too.
DIGITS = Path(__file__).parents[2] / "web/digits.onebit"
TEXTS = "books-10m"


@dataclass
class Served:
    """A running server: its address, its process, and a client."""

    url: str
    process: subprocess.Popen
    client: httpx.Client
    log: Path

    def metric(self, name):
        """The value of a metric without labels, or the sum over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}(\{{.*\}})? ", line))

    def settled(self, name, value, seconds=5):
        """Whether a metric gets a value soon."""
        end = time.monotonic() + seconds
        while self.metric(name) != value:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


@contextlib.contextmanager
def started(tmp_path, *words, env=None):
    """`onebit serve` with such words on a free port."""
    log = tmp_path / f"log{len(list(tmp_path.glob('log*')))}"
    with log.open("wb") as errors:
        command = [sys.executable, "-m", "onebit", "serve", *map(str, words), "--port", "0"]
        process = subprocess.Popen(command, stderr=errors, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    try:
        end = time.monotonic() + 30
        while not (found := re.search(r"at (http://\S+)", log.read_text("utf-8"))):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.02)
        with httpx.Client(base_url=found[1], timeout=30) as client:
            while client.get("/ready").status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.02)
            yield Served(found[1], process, client, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
