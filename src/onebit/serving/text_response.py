"""The answer to a request for texts, sent as its pieces come or as a whole, and given up when its client goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from onebit.serving.job import Event, Job
from onebit.serving.openai import DONE, Choice, TextAnswer, TextRequest, usage
from onebit.serving.slow_readers import SlowReaders

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy such as nginx sends pieces on at once
]


class Mailbox:
    """Events for one coroutine of the server's loop. Only that loop's thread uses it."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self.gone = False  # the client has closed its connection

    def put(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)
        self._wake()

    def leave(self) -> None:
        """Note that the client is gone."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Event]:
        """All events that are there, at least one unless the client is gone."""
        if not self._events and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events, self._events = self._events, []
        return events


class TextResponse:
    """An ASGI answer with texts.

    Args:
        answer: the shapes.
        mailbox: where the events of the texts arrive.
        submit: gives the worker texts. It raises Refusal if it does not take them.
        jobs: the texts.
        request: what was asked for.
        slow: cuts clients that do not read.
    """

    def __init__(
        self,
        answer: TextAnswer,
        mailbox: Mailbox,
        submit: Callable[[Sequence[Job]], None],
        jobs: Sequence[Job],
        request: TextRequest,
        slow: SlowReaders,
    ) -> None:
        self._answer, self._mailbox, self._submit, self._jobs = answer, mailbox, submit, jobs
        self._stream, self._with_usage, self._each = request.stream, request.usage, request.n
        self._slow = slow
        self._open = len(jobs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._submit(self._jobs)
        watch = asyncio.ensure_future(self._watch(receive))
        try:
            if self._stream:
                await self._send_stream(scope, send)
            else:
                await self._send_whole(scope, receive, send)
        finally:
            watch.cancel()
            for job in self._jobs:
                job.cancelled = True

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._mailbox.leave()

    async def _take(self) -> list[Event]:
        events = await self._mailbox.take()
        for event in events:
            if event.failure is None:
                self._open -= event.finish is not None
        return events

    def _usage(self) -> dict[str, Any]:
        # Several texts of one prompt count it once, as OpenAI does. The tokens that begin every text are not the client's.
        return usage(
            sum(job.prompt_tokens - job.lead for job in self._jobs if job.index % self._each == 0),
            sum(job.text.made for job in self._jobs),
            sum(job.shared for job in self._jobs if job.index % self._each == 0),
        )

    async def _send_stream(self, scope: Scope, send: Send) -> None:
        begun = False
        with self._slow.watch(scope) as sending:
            while self._open and not self._mailbox.gone:
                events = await self._take()
                failure = next((event.failure for event in events if event.failure), None)
                if not begun:
                    # A failure before the first piece is an answer of its own.
                    if failure is not None:
                        raise failure
                    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                    begun = True
                body = b"".join(
                    self._answer.event(event.job.index, event.text, event.scores, event.finish)
                    for event in events
                    if event.failure is None and (event.text or event.finish or event.scores)
                )
                if failure is not None:
                    await send({"type": "http.response.body", "body": body + TextAnswer.failure(failure)})
                    return
                if body:
                    sending.since = time.monotonic()
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    sending.since = None
                for event in events:
                    event.job.read = event.job.sent
            if not self._mailbox.gone:
                end = self._answer.last_event(self._usage()) + DONE if self._with_usage else DONE
                await send({"type": "http.response.body", "body": end})

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        choices = [Choice() for _ in self._jobs]
        while self._open and not self._mailbox.gone:
            for event in await self._take():
                if event.failure is not None:
                    raise event.failure
                choice = choices[event.job.index]
                choice.text += event.text
                choice.scores += event.scores
                choice.finish = event.finish
                event.job.read = event.job.sent
        if not self._mailbox.gone:
            await JSONResponse(self._answer.whole(choices, self._usage()))(scope, receive, send)
