"""The sockets of a server."""

from __future__ import annotations

import errno
import socket

from onebit.errors import OnebitError

BACKLOG = 1024
_SEND_BYTES = 64 << 10


def listen(host: str, port: int, shared: bool = False) -> socket.socket:
    """A socket that listens.

    Args:
        host: a name or an address.
        port: 0 takes a free one.
        shared: let further sockets listen on the same port. The system then divides connections among them.

    Raises:
        OnebitError: the port is in use or not allowed, or the host is not an address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise OnebitError(f"[serve] host {host!r} is not known: use an address of this machine") from None
    listening = socket.socket(family, kind)
    try:
        # A server that has just ended leaves connections that wait.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What a client leaves unread waits in the system first: a model must notice early that nobody reads.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise OnebitError(f"[serve] port {port} is in use: give another one with --port, or 0 for any") from None
        if error.errno == errno.EACCES:
            raise OnebitError(f"[serve] port {port} is not allowed for you: use one from 1024 up") from None
        raise OnebitError(f"[serve] {host}:{port} cannot be listened on: {error.strerror}") from None
    listening.setblocking(False)
    return listening


def port_of(listening: socket.socket) -> int:
    """The port on which a socket listens."""
    return int(listening.getsockname()[1])


def url_of(host: str, port: int) -> str:
    """The address as a browser takes it."""
    shown = (
        "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    )
    return f"http://{shown}:{port}"
