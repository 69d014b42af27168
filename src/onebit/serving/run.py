"""Start a server, and end it: one process, or several that share a port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from onebit.printable import printable
from onebit.serving.app import make_app
from onebit.serving.context import Context
from onebit.serving.listening import BACKLOG, listen, port_of, url_of
from onebit.serving.models import describe_all
from onebit.serving.protocol import make_protocol
from onebit.serving.settings import Settings

_KEEP_ALIVE_SECONDS = 75
# A worker that ends sooner than this after its start is not started again and again without a pause.
_RESTART_SECONDS = 1.0
# After --drain texts end with an event that says why: so long the events may take to their clients.
_LAST_SECONDS = 2


class _Server(uvicorn.Server):
    """uvicorn's server, with signals of our own: SIGTERM and SIGINT end it, SIGHUP reads the files again."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context
        self._reloading: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        yield

    def _stop(self) -> None:
        self._context.ready = False
        self._context.models.end_by(time.monotonic() + self._context.settings.drain)
        self.force_exit = self.should_exit  # asked a second time
        self.should_exit = True

    def _reload(self) -> None:
        self._reloading = asyncio.ensure_future(self._read_again())

    async def _read_again(self) -> None:
        for line in await self._context.models.reload():
            say(line)


def say(line: str) -> None:
    """A line for whoever runs the server."""
    print(f"onebit: {printable(line)}", file=sys.stderr, flush=True)


def serve(files: Sequence[str | Path], settings: Settings) -> int:
    """Serve files until a signal ends it.

    Args:
        files: paths, or names of networks that come with the package.
        settings: all else.

    Returns:
        The exit status.

    Raises:
        FormatError: a file is damaged.
        OnebitError: the settings do not fit, or the port is in use.
    """
    # With several processes this socket keeps the port, and tells whether it is in use, but takes no connection.
    listening = listen(settings.host, settings.port)
    port = port_of(listening)
    if settings.workers == 1:
        return _serve_here(files, settings, listening)
    listening.close()
    describe_all(files)  # what is wrong with one is said once, and not by each process again and again
    return _Processes(files, settings, port).run()


def _serve_here(files: Sequence[str | Path], settings: Settings, listening: socket.socket, quiet: bool = False) -> int:
    # Python waits so long before it takes the interpreter from a thread that computes: tokens must not wait for it.
    sys.setswitchinterval(0.0005)
    app, context = make_app(files, settings)
    logging.getLogger("uvicorn.error").setLevel(
        logging.CRITICAL + 1
    )  # its lines have traces, and the clients' addresses
    config = uvicorn.Config(
        app,
        http=make_protocol(settings.max_connections),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain) + _LAST_SECONDS,
        proxy_headers=False,
    )
    if not quiet:
        names = ", ".join(model.name for model in context.models)
        say(f"serves {names} at {url_of(settings.host, port_of(listening))}")
    # Connections and their requests refer to each other, and wait for the collector of cycles. It looks at all objects only when their number has
    # grown by a quarter: modules, of which there are many, do not count from here on.
    gc.collect()
    gc.freeze()
    server = _Server(config, context)
    server.run(sockets=[listening])
    return 0


class _Processes:
    """Several processes that listen on one port. Each has its own models; the pages of the files are in memory once."""

    def __init__(self, files: Sequence[str | Path], settings: Settings, port: int) -> None:
        self._files, self._settings, self._port = files, settings, port
        self._started: dict[int, float] = {}
        self._stopping = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        for _ in range(self._settings.workers):
            self._start(quiet=bool(self._started))
        while self._started:
            try:
                pid, _ = os.wait()
            except InterruptedError:
                continue
            except ChildProcessError:
                break
            began = self._started.pop(pid, 0.0)
            if not self._stopping:
                say(f"worker {pid} ended: another one starts")
                time.sleep(max(0.0, _RESTART_SECONDS - (time.monotonic() - began)))
                self._start(quiet=True)
        return 0

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._stopping = self._stopping or number != signal.SIGHUP
        for pid in list(self._started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _start(self, quiet: bool) -> None:
        if self._stopping:
            return
        # Forked before any thread starts: this process only waits.
        pid = os.fork()
        if pid:
            self._started[pid] = time.monotonic()
            return
        status = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            listening = listen(self._settings.host, self._port, shared=True)
            status = _serve_here(self._files, self._settings, listening, quiet)
        except Exception as error:
            say(f"error: {error}")
        finally:
            os._exit(status)
