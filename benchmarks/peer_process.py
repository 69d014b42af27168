"""The two ends of the pipe between benchmarks/peers.py and its competitors. Every competitor is its own process.

This separates memory, thread pools and crashes. Each process is pinned to as many processors as it may use threads, and between its turns
it only waits for the next line. Answers are lines of JSON.

    python benchmarks/peer_process.py make FILE FOLDER              makes one of `peer_files.FILES`
    python benchmarks/peer_process.py run INDEX FOLDER THREADS      one of `peer_engines.competitors()`: a line with a job's name gives its times
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from measure import pin, timed

# No file and no turn takes nearly as long. A process that hangs should not stop the rest.
PATIENCE_SECONDS = 900
# Threads of the turn before may still be spinning.
PAUSE_SECONDS = 0.05
# A run of a small product is far shorter than what a clock and a sleeping thread cost.
LEAST_MS = 20.0


class Process:
    """A child process that answers lines with lines. `failure` says why it has stopped."""

    def __init__(
        self, words: list[str], threads: int, log: Path, program: str = __file__, python: str = sys.executable
    ) -> None:
        self.failure: str | None = None
        # Pools that ask nobody else follow these.
        pools = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        with log.open("a") as errors:
            self._child = subprocess.Popen(
                [python, program, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | pools,
            )
        self.greeting = self._answer()

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer; empty if it fails."""
        assert self._child.stdin is not None
        if self.failure is None:
            # Where it has ended, the answer tells how.
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.write(line + "\n")
                self._child.stdin.flush()
            return self._answer()
        return {}

    def close(self) -> None:
        """End it."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.kill()
        self._child.wait()
        self._child.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        timer = threading.Timer(PATIENCE_SECONDS, self._child.kill)
        timer.start()
        line = self._child.stdout.readline()
        late = not timer.is_alive()
        timer.cancel()
        if not line:
            status = self._child.wait()
            self.failure = f"no answer in {PATIENCE_SECONDS} s" if late else f"its process ended with status {status}"
            return {}
        answer: dict[str, Any] = json.loads(line)
        self.failure = answer.get("failure")
        return {} if self.failure else answer


class Peer(Process):
    """A competitor that is ready to run, or says in `failure` why not."""

    def __init__(self, index: int, folder: Path, threads: int, log: Path) -> None:
        super().__init__(["run", str(index), str(folder), str(threads)], threads, log)
        self.jobs: list[str] = self.greeting.get("jobs", [])
        self.about: str = self.greeting.get("about", "")

    def turn(self, job: str) -> list[float]:
        """Milliseconds of some runs of a job; empty if it fails."""
        time.sleep(PAUSE_SECONDS)
        times: list[float] = self.ask(job).get("ms", [])
        return times


def make_file(name: str, folder: Path, log: Path) -> str | None:
    """Make a model's file. Returns the reason if it fails."""
    process = Process(["make", name, str(folder)], 1, log)
    process.close()
    return process.failure


def _reason(error: BaseException) -> str:
    """One line for the table of those that are absent."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _make(channel: TextIO, name: str, folder: Path) -> None:
    from peer_files import FILES

    FILES[name](folder / name)
    print(json.dumps({}), file=channel, flush=True)


def _run(channel: TextIO, index: int, folder: Path, threads: int) -> None:
    from peer_engines import competitors

    pin(threads)
    jobs, about = competitors()[index].start(folder, threads)
    print(json.dumps({"jobs": list(jobs), "about": about}), file=channel, flush=True)
    for line in sys.stdin:
        job, units = jobs[line.strip()]
        times = [ms / units for ms in timed(job, least_ms=LEAST_MS)]
        print(json.dumps({"ms": times}), file=channel, flush=True)


def main() -> None:
    # Some libraries print to standard output: send everything but answers to standard error.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        try:
            if sys.argv[1] == "make":
                _make(channel, sys.argv[2], Path(sys.argv[3]))
            else:
                _run(channel, int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        except BaseException as error:
            print(json.dumps({"failure": _reason(error)}), file=channel, flush=True)
            raise


if __name__ == "__main__":
    main()
