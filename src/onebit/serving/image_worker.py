"""The thread that owns an image network: requests that arrive together are one batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.runtime.session import ImageSession
from onebit.serving.metrics import Metrics
from onebit.serving.refusal import Refusal
from onebit.serving.worker import Worker

MOST_BATCH = 64
# For so long a batch waits for further requests that are being read.
WAIT_SECONDS = 0.002


@dataclass(eq=False)
class _Request:
    pixels: NDArray[Any]  # (images, height, width, channels)
    done: Callable[[NDArray[np.float32] | Refusal], None]
    began: float


class ImageWorker(Worker[_Request]):
    """Runs images with one session, in a thread of its own.

    Args:
        session: the model.
        most_waiting: how many images may wait.
        metrics: where it counts.
    """

    def __init__(self, session: ImageSession, most_waiting: int, metrics: Metrics) -> None:
        super().__init__("onebit-images", most_waiting, metrics)
        self.session = session
        self._running = 0
        self.expected = 0  # requests that are being read or wait; the server's thread counts them
        self._thread.start()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running or self.expected)

    async def logits(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """The logits of images (n, height, width, channels), float32 (n, classes). Raises Refusal if too many wait or they do not fit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[NDArray[np.float32]] = loop.create_future()

        def finish(result: NDArray[np.float32] | Refusal) -> None:
            if future.done():  # the request was given up
                return
            if isinstance(result, Refusal):
                future.set_exception(result)
            else:
                future.set_result(result)

        with self._condition:
            self._check_open()
            if sum(len(request.pixels) for request in self._waiting) + len(pixels) > self._most_waiting + MOST_BATCH:
                raise self._full("requests")
            done = _later(loop, finish)
            self._waiting.append(_Request(pixels, done, time.perf_counter()))
            self._condition.notify()
        return await future

    def _run(self) -> None:
        while batch := self._take():
            try:
                results: list[NDArray[np.float32] | Refusal] = list(self._compute(batch))
            except (OnebitError, MemoryError) as error:
                # One request may spoil the others' batch.
                results = [self._alone(request, error) for request in batch]
            for request, result in zip(batch, results, strict=True):
                request.done(result)
            self._running = 0

    def _take(self) -> list[_Request]:
        """The next requests of one type of pixels; none at the end."""
        with self._condition:
            while not self._waiting:
                if self._closing:
                    return []
                self._condition.wait()
            limit = time.monotonic() + WAIT_SECONDS
            while len(self._waiting) < min(self.expected, MOST_BATCH) and (left := limit - time.monotonic()) > 0:
                self._condition.wait(left)
            batch = [self._waiting.popleft()]
            images = len(batch[0].pixels)
            while self._waiting and self._waiting[0].pixels.dtype == batch[0].pixels.dtype:
                images += len(self._waiting[0].pixels)
                if images > MOST_BATCH:
                    break
                batch.append(self._waiting.popleft())
            self._running = len(batch)
        now = time.perf_counter()
        self._metrics.observe("onebit_queue_seconds", [now - request.began for request in batch])
        return batch

    def _compute(self, batch: list[_Request]) -> list[NDArray[np.float32]]:
        counts = [len(request.pixels) for request in batch]
        logits = self.session(np.concatenate([request.pixels for request in batch]))
        self._metrics.observe("onebit_batch_size", [len(logits)])
        self._metrics.count("onebit_images_total", len(logits))
        return np.split(logits, np.cumsum(counts)[:-1])

    def _alone(self, request: _Request, error: Exception) -> NDArray[np.float32] | Refusal:
        if isinstance(error, MemoryError):
            return Refusal(503, "there is not enough memory for these images: send fewer")
        try:
            return self._compute([request])[0]
        except (OnebitError, MemoryError) as own:
            return Refusal(400, str(own) or "there is not enough memory for these images")


def _later(loop: asyncio.AbstractEventLoop, finish: Callable[[Any], None]) -> Callable[[Any], None]:
    """Call a function in the thread of a loop, unless that has ended."""

    def call(result: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, result)

    return call
