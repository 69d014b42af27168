"""Measure how fast a packed file runs on this machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onebit.errors import OnebitError
from onebit.pretrained import find
from onebit.printable import printable
from onebit.processors import cores
from onebit.progress import report
from onebit.random_inputs import random_inputs
from onebit.runtime.session import ArraySession, Precision, Session, engine_options, load
from onebit.runtime.tensors import TensorSession
from onebit.runtime.text import TextSession

# The batch size of the measurement of a batch.
BATCH = 8
# The tokens of one measurement of generation: the time of a single token is within the clock's noise.
TOKENS = 24
# The least number of values of a median, however slow the model is.
LEAST_SAMPLES = 3


def _line(name: str, ms: float, per_second: float, unit: str) -> str:
    return f"    {name:<40} {ms:10.3f} ms {per_second:12,.1f} {unit}"


@dataclass(frozen=True)
class ImageSpeed:
    """Medians for an image network on a number of threads.

    Args:
        threads: the engine's threads.
        memory_bytes: the memory that the engine holds.
        ms_per_image: milliseconds for a single image.
        ms_per_image_in_batch: milliseconds per image in a batch of `BATCH`.
    """

    threads: int
    memory_bytes: int
    ms_per_image: float
    ms_per_image_in_batch: float

    def to_dict(self) -> dict[str, float]:
        """As plain values, with images per second."""
        return {
            "threads": self.threads,
            "memory_bytes": self.memory_bytes,
            "ms_per_image": self.ms_per_image,
            "images_per_second": 1e3 / self.ms_per_image,
            f"ms_per_image_in_batch_of_{BATCH}": self.ms_per_image_in_batch,
            f"images_per_second_in_batch_of_{BATCH}": 1e3 / self.ms_per_image_in_batch,
        }

    def __str__(self) -> str:
        one, many = self.ms_per_image, self.ms_per_image_in_batch
        return "\n".join(
            [
                _line("an image", one, 1e3 / one, "images/s"),
                _line(f"an image of a batch of {BATCH}", many, 1e3 / many, "images/s"),
            ]
        )


@dataclass(frozen=True)
class TextSpeed:
    """Medians for a language model on a number of threads.

    Args:
        threads: the engine's threads.
        memory_bytes: the memory that the engine holds, with the KV caches of the measured texts.
        context: the most tokens of a text.
        ms_per_token_at_beginning: milliseconds per token at the beginning of the context.
        ms_per_token_at_end: milliseconds per token at the end of the context.
        prompt_ms: milliseconds for a prompt as long as the context.
    """

    threads: int
    memory_bytes: int
    context: int
    ms_per_token_at_beginning: float
    ms_per_token_at_end: float
    prompt_ms: float

    @property
    def prompt_tokens_per_second(self) -> float:
        """Tokens per second of a prompt as long as the context."""
        return 1e3 * self.context / self.prompt_ms

    def to_dict(self) -> dict[str, float]:
        """As plain values, with tokens per second."""
        return {
            "threads": self.threads,
            "memory_bytes": self.memory_bytes,
            "context": self.context,
            "ms_per_token_at_beginning": self.ms_per_token_at_beginning,
            "tokens_per_second_at_beginning": 1e3 / self.ms_per_token_at_beginning,
            "ms_per_token_at_end": self.ms_per_token_at_end,
            "tokens_per_second_at_end": 1e3 / self.ms_per_token_at_end,
            "prompt_ms": self.prompt_ms,
            "prompt_tokens_per_second": self.prompt_tokens_per_second,
        }

    def __str__(self) -> str:
        first, last = self.ms_per_token_at_beginning, self.ms_per_token_at_end
        return "\n".join(
            [
                _line("a token at the beginning of the context", first, 1e3 / first, "tokens/s"),
                _line("a token at its end", last, 1e3 / last, "tokens/s"),
                _line(f"a prompt of {self.context} tokens", self.prompt_ms, self.prompt_tokens_per_second, "tokens/s"),
            ]
        )


@dataclass(frozen=True)
class Speed:
    """What `bench` measured. `str` is a table.

    Args:
        file, file_bytes: the file's path and size.
        kind: its kind of input, "images" or "text".
        load_ms: the median time to load it, in milliseconds.
        isa, precision: the engine's instruction set and arithmetic.
        runs: the medians for each number of threads.
    """

    file: str
    file_bytes: int
    kind: Literal["images", "text"]
    load_ms: float
    isa: str
    precision: str
    runs: tuple[ImageSpeed | TextSpeed, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self) | {"runs": [run.to_dict() for run in self.runs]}

    def __str__(self) -> str:
        lines = [
            f"{printable(self.file)}: {self.file_bytes:,} bytes, loaded in {self.load_ms:.1f} ms",
            f"engine {self.isa}, {self.precision}; medians",
        ]
        for run in self.runs:
            many = "s" if run.threads > 1 else ""
            lines.append(f"  {run.threads} thread{many}, {run.memory_bytes:,} bytes of memory in the engine")
            lines.append(str(run))
        return "\n".join(lines)


def bench(
    file: str | Path,
    threads: Sequence[int] | None = None,
    precision: Precision = "int8",
    isa: str | None = None,
    seconds: float = 4.0,
) -> Speed:
    """Measure how fast a packed file runs on this machine, on random images or tokens. Their content does not change the speed.

    Args:
        file: a `.onebit` file, or the name of one that comes with the package.
        threads: the numbers of threads to measure. The default is 1 and one per core.
        precision, isa: see `onebit.load`.
        seconds: the time for all measurements together.

    Raises:
        FormatError: the file is damaged, foreign or of an unknown version.
        OnebitError: an argument is out of range, or the engine cannot run the file.

    Example:
        >>> onebit.bench("books", threads=[1], seconds=0.1).kind
        'text'
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise OnebitError(f"[bench] --seconds {seconds:g}: use a number above 0")
    path, counts = find(file), list(dict.fromkeys(threads or (1, cores())))
    for count in counts:  # check all of them before measuring the first
        engine_options(precision, count)
    loads: list[float] = []
    runs: list[ImageSpeed | TextSpeed] = []
    for count in counts:
        start = time.perf_counter()
        session = load(path, precision, count, isa)
        loads.append(time.perf_counter() - start)
        share = seconds / len(counts)
        runs.append(_texts(session, share) if isinstance(session, TextSession) else _images(session, share))
    return Speed(
        file=str(path),
        file_bytes=path.stat().st_size,
        kind="text" if isinstance(session, TextSession) else "images",
        load_ms=1e3 * statistics.median(loads),
        isa=session.isa,
        precision=session.precision,
        runs=tuple(runs),
    )


def _images(session: ArraySession | TensorSession, seconds: float) -> ImageSpeed:
    if isinstance(session, TensorSession):
        batch = random_inputs(session.program, BATCH)
        first = {name: array[:1] for name, array in batch.items()}
        one, many = _medians([lambda: session.run(first), lambda: session.run(batch)], seconds, _work(session))
        return ImageSpeed(session.threads, session.memory_bytes, one, many / BATCH)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *session.program.input_shape), np.uint8)
    one, many = _medians([lambda: session(pixels[:1]), lambda: session(pixels)], seconds, _work(session))
    return ImageSpeed(session.threads, session.memory_bytes, one, many / BATCH)


def _texts(session: TextSession, seconds: float) -> TextSpeed:
    context = session.context
    ids = np.random.default_rng(0).integers(0, session.tokenizer.size, context).astype(np.int32)
    count = max(1, min(TOKENS, context // 2))

    def writes(start: int) -> Callable[[], object]:
        sequence = session.sequence()
        if start:
            sequence.feed(ids[:start])

        def write() -> None:
            sequence.cut(start)
            for i in range(start, start + count):
                sequence.feed(ids[i : i + 1])

        return write

    prompt = session.sequence()

    def read() -> None:
        prompt.cut(0)
        prompt.feed(ids)

    jobs = [writes(0), writes(context - count), read]
    first, last, whole = _medians(jobs, seconds, _work(session))
    return TextSpeed(session.threads, session.memory_bytes, context, first / count, last / count, whole)


def _work(session: Session) -> str:
    return f"measure with {session.threads} thread{'s' if session.threads > 1 else ''}"


def _medians(jobs: list[Callable[[], object]], seconds: float, work: str) -> list[float]:
    """Milliseconds of each job. Jobs take turns until the time is over, so that changes of the machine's load affect all alike."""
    times: list[list[float]] = [[] for _ in jobs]
    for job in jobs:
        job()
    begin = time.perf_counter()
    while len(times[0]) < LEAST_SAMPLES or time.perf_counter() < begin + seconds:
        report(work, min(time.perf_counter() - begin, seconds), seconds, "s")
        for job, values in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            values.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(values) for values in times]
