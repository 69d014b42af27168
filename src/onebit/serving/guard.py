"""What stands before every route, as plain ASGI: names, origins, keys, sizes, times, and errors without traces."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
import sys
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onebit.serving.context import KEY, Context
from onebit.serving.refusal import Refusal

_EVERYWHERE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# A name or an address, and perhaps a port.
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")


class Guard:
    """Refuses requests that must not reach a route.

    Args:
        app: what answers the others.
        context: the parts of the server.
        open_paths: what is answered without a key.
        paths: the paths that metrics name.
    """

    def __init__(self, app: ASGIApp, context: Context, open_paths: Collection[str], paths: Collection[str]) -> None:
        self._app, self._context = app, context
        self._settings, self._metrics = context.settings, context.metrics
        self._keys = [key.encode() for key in self._settings.keys]
        self._open_paths, self._paths = open_paths, paths
        names = (socket.gethostname(), *self._settings.allow_host)
        self._hosts = {"localhost", *(name.lower() for name in names)}
        self._most_body = self._settings.max_body << 20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket is served
            await send({"type": "websocket.close", "code": 1008})
            return
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_EVERYWHERE]}
            await send(message)

        try:
            failure = await self._answer(scope, receive, answer)
            if failure is not None and not status:
                await JSONResponse(failure.to_json(), failure.status, failure.headers)(scope, receive, answer)
        finally:
            # Status 499, as nginx has it: the client went before there was an answer.
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count("onebit_requests_total", path=path, status=str(status or 499))
            if status >= 400:
                self._metrics.count("onebit_errors_total", status=str(status))
            self._metrics.observe("onebit_request_seconds", [time.perf_counter() - began])

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Refusal | None:
        """Let a route answer. Returns why it does not."""
        scope.update({KEY: self._context, "app": self._app})
        try:
            self._check(scope)
            await self._app(scope, self._limited(receive), send)
        except Refusal as refusal:
            return refusal
        except HTTPException as error:  # no route has this path or this method
            text = "there is no such path" if error.status_code == 404 else f"{scope['method']} is not allowed here"
            return Refusal(error.status_code, text, headers=error.headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            _report(error)
            return Refusal(500, "the server failed at this request")
        return None

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers.get("host", ""))
        self._check_origin(headers)
        if self._keys and scope["path"] not in self._open_paths:
            self._check_key(headers)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most_body:
            raise self._too_large()

    def _check_host(self, host: str) -> None:
        """A page of another site can give this machine a name of its own, and its scripts then count as this server's: names are checked."""
        found = _HOST.fullmatch(host)
        name = found[1].strip("[]").lower() if found else ""
        if name in self._hosts or _is_address(name):
            return
        raise Refusal(403, f"the host {name[:80]!r} is not known here: start the server with --allow-host {name[:80]}")

    def _check_origin(self, headers: Headers) -> None:
        """Scripts of other sites may send requests, although they cannot read the answers."""
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != headers.get("host", "").lower():
            raise Refusal(403, "requests from pages of other sites are not answered")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            raise Refusal(403, "requests from pages of other sites are not answered")

    def _check_key(self, headers: Headers) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = (key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode()
        # All are compared, so that the time tells nothing.
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        if not any(matches):
            text = "the key is wrong" if given else "a key is needed: send Authorization: Bearer KEY"
            raise Refusal(401, text, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def _limited(self, receive: Receive) -> Receive:
        """A body of limited size that arrives in time."""
        size, whole = 0, False
        limit = asyncio.get_running_loop().time() + self._settings.body_timeout

        async def limited() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(limit):
                    message = await receive()
            except TimeoutError:
                text = f"the body did not arrive within {self._settings.body_timeout:g} seconds"
                raise Refusal(408, text, headers={"Connection": "close"}) from None
            size += len(message.get("body", b""))
            if size > self._most_body:
                raise self._too_large()
            whole = not message.get("more_body", False)
            return message

        return limited

    def _too_large(self) -> Refusal:
        text = f"the body is too large: at most {self._settings.max_body} MB are allowed"
        return Refusal(413, text, headers={"Connection": "close"})


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as http://[
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _report(error: Exception) -> None:
    """Where a request failed. The error's text may hold what the client sent, so it is left out."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else "?"
    print(f"onebit: error: a request failed: {type(error).__name__} at {where}", file=sys.stderr, flush=True)
