"""uvicorn's reader of HTTP, with limits on heads and on connections."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from onebit.serving.slow_readers import ABORT

# All headers of a request together.
MOST_HEAD_BYTES = 64 << 10
MOST_HEADERS = 100
HEAD_SECONDS = 15.0
_BUSY = b"503 Service Unavailable\r\nretry-after: 1"
_LONG = b"431 Request Header Fields Too Large"


def make_protocol(most_connections: int) -> type[HttpToolsProtocol]:
    """The class of connections of a server that takes so many at once."""

    class LimitedProtocol(HttpToolsProtocol):
        _in_head = True
        _head_bytes = 0
        _timer: asyncio.TimerHandle | None = None
        _refused = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most_connections:
                self._refuse(_BUSY)
            else:
                self._timer = self.loop.call_later(HEAD_SECONDS, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            super().connection_lost(exc)
            # asyncio's transport refers to itself by this method. It is freed at once without: the collector of cycles comes rarely where there are
            # many connections.
            vars(self.transport).pop("_read_ready_cb", None)

        def data_received(self, data: bytes) -> None:
            if self._refused:
                return
            if self._in_head:
                self._head_bytes += len(data)
                self._timer = self._timer or self.loop.call_later(HEAD_SECONDS, self.transport.abort)
            super().data_received(data)
            if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(_LONG)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

        def on_header(self, name: bytes, value: bytes) -> None:
            super().on_header(name, value)
            if len(self.headers) > MOST_HEADERS:
                self._refuse(_LONG)
                raise ValueError("too many headers")  # ends the parser

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._forget_timer()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_head, self._head_bytes = True, 0
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            if not self._refused:
                super().send_400_response(msg)

        def _forget_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: bytes) -> None:
            self._refused = True
            self._forget_timer()
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()

    return LimitedProtocol
