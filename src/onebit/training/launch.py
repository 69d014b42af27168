"""Starting the processes of one machine that train together, and watching them: one that dies ends the others, and is named."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onebit
from onebit import errors
from onebit.errors import OnebitError
from onebit.training.layout import Layout
from onebit.training.recipe import Recipe

# Processes that lose one of theirs fail too, at once; in this time all that is to be known of the first is there.
SETTLE_SECONDS = 0.5
# Named, not imported: it imports what trains.
WORKER = "onebit.training.worker"


def run_processes(
    recipe: Recipe,
    out: Path,
    resume: bool,
    progress: bool,
    checkpoint_steps: int | None,
    layout: Layout,
    lock: int | None,
) -> None:
    """Train in processes of this machine, and wait for them.

    They run `WORKER`, not the caller's program once more: it works from a script, a notebook and a test, and nothing that stands after the
    training is done by each of them.

    Args:
        lock: the descriptor by which the folder is held, if here: each process holds it too, so that the folder is free when the last one has ended.

    Raises:
        OnebitError: what one of them raised, or that it died; the others are ended.
        KeyboardInterrupt: at Ctrl-C, likewise.
    """
    with tempfile.TemporaryDirectory(prefix="onebit-") as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(recipe.to_yaml())
        options = {
            "out": str(out),
            "resume": resume,
            "progress": progress,
            "checkpoint_steps": checkpoint_steps,
            "devices": layout.devices,
            "nodes": layout.nodes,
            "strategy": layout.strategy,
        }
        (folder / "options.json").write_text(json.dumps(options))
        processes = {}
        # Ctrl-C reaches every process of a terminal; the one that was started by hand decides. The others inherit that it
        # is blocked, also for the seconds in which they import.
        waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for local_rank, environment in enumerate(_environments(layout)):
                words = [sys.executable, "-c", f"from {WORKER} import work; work({name!r})"]
                # Their input is a pipe of ours: when we are gone, however that came, they see its end.
                process = subprocess.Popen(
                    words, env=environment, stdin=subprocess.PIPE, pass_fds=[] if lock is None else [lock]
                )
                processes[layout.rank + local_rank] = process
            signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
            _watch(processes, folder)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
            for process in processes.values():
                process.kill()
            for process in processes.values():
                process.wait()
                assert process.stdin is not None
                process.stdin.close()


def _environments(layout: Layout) -> list[dict[str, str]]:
    """What each process is told, in the words of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if layout.nodes > 1:
        meeting = {key: os.environ[key] for key in meeting}
    source = str(Path(onebit.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return [
        {
            **os.environ,
            **meeting,
            "PYTHONPATH": path,
            "RANK": str(layout.rank + local_rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(layout.world),
            "LOCAL_WORLD_SIZE": str(layout.devices),
            "GROUP_RANK": str(layout.rank // layout.devices),
        }
        for local_rank in range(layout.devices)
    ]


def _watch(processes: dict[int, subprocess.Popen[bytes]], folder: Path) -> None:
    """Wait until all have ended well, or raise what the first one to fail has failed of."""
    while True:
        statuses = {rank: process.poll() for rank, process in processes.items()}
        if any(statuses.values()):
            break
        if all(status == 0 for status in statuses.values()):
            return
        time.sleep(0.05)
    time.sleep(SETTLE_SECONDS)
    statuses = {rank: process.poll() for rank, process in processes.items()}
    # One that was killed left no word. One that only lost another fails too, but not of anything that it was made to say.
    for rank, status in statuses.items():
        if status is not None and status < 0:
            raise OnebitError(
                f"[train] rank {rank} was ended by {signal.Signals(-status).name}: the last checkpoint stands: go on with --resume"
            )
    for file in sorted(folder.glob("error-*.json")):
        kind, message = json.loads(file.read_text())
        raise getattr(errors, kind, OnebitError)(message)
    words = sorted(folder.glob("failed-*.txt"), key=lambda file: file.stat().st_mtime_ns)
    text = words[0].read_text() if words else "it ended without a word"
    print(text, file=sys.stderr)
    failed = words[0].stem.removeprefix("failed-") if words else next(rank for rank in statuses if statuses[rank])
    raise OnebitError(f"[train] rank {failed} failed: {text.splitlines()[-1]}: the last checkpoint stands")
