"""`onebit bench`: how fast a packed file runs on this machine."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.pretrained import find
from onebit.printable import printable

if TYPE_CHECKING:
    from onebit.runtime.session import ImageSession
    from onebit.runtime.text import TextSession

# Images that are run together where a batch is measured.
BATCH = 8
# Tokens that one measurement of writing takes: one alone is as short as the clock's own noise.
TOKENS = 24
# A median needs a few values, however slow the model is.
LEAST_SAMPLES = 3

EXAMPLES = """examples:
  onebit bench pets.onebit
  onebit bench books.onebit --threads 1 2 4
  onebit bench pets.onebit --precision float32 --isa avx2 --json
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="how fast a packed file runs on this machine",
        description=(
            "Load a packed file, run it on random images or tokens for a few seconds, and print medians: milliseconds per image, or per token "
            "and for a prompt. Speed does not depend on what the images or tokens are. Needs no PyTorch."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", type=find, metavar="FILE", help="a .onebit file, or the name of one that comes with onebit: books"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="default: one thread, then one for each core"
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, metavar="S", help="for all measurements together (default %(default)s)"
    )
    parser.add_argument("--precision", choices=("int8", "float32"), default="int8", help="default %(default)s")
    parser.add_argument(
        "--isa", metavar="NAME", help="an instruction set that `onebit info --engine` lists; default the best"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from onebit.errors import OnebitError

    if not (math.isfinite(args.seconds) and args.seconds > 0):
        raise OnebitError(f"[bench] --seconds {args.seconds:g}: use a number above 0")
    threads = list(dict.fromkeys(args.threads or (1, _cores())))
    result = measure(args.file, threads, args.precision, args.isa, args.seconds)
    if args.json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def measure(path: Path, threads: list[int], precision: Any, isa: str | None, seconds: float) -> dict[str, Any]:
    """Everything that `bench` tells of a file, as plain values."""
    import onebit
    from onebit.runtime.session import engine_options
    from onebit.runtime.text import TextSession  # now, so that loading the library does not count as loading the file

    for count in threads:  # all of them before the first is measured
        engine_options(precision, count)
    loads, runs = [], []
    session: ImageSession | TextSession
    for count in threads:
        start = time.perf_counter()
        session = onebit.load(path, precision, count, isa)
        loads.append(time.perf_counter() - start)
        share = seconds / len(threads)
        speed = _texts(session, share) if isinstance(session, TextSession) else _images(session, share)
        runs.append({"threads": session.threads, **speed, "memory_bytes": session.memory_bytes})
    return {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "kind": "text" if isinstance(session, TextSession) else "images",
        "load_ms": 1e3 * statistics.median(loads),
        "isa": session.isa,
        "precision": session.precision,
        "runs": runs,
    }


def _images(session: ImageSession, seconds: float) -> dict[str, float]:
    """Milliseconds per image, alone and in a batch."""
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *session.program.input_shape), np.uint8)
    one, many = _medians([lambda: session(pixels[:1]), lambda: session(pixels)], seconds)
    return {
        "ms_per_image": one,
        "images_per_second": 1e3 / one,
        f"ms_per_image_in_batch_of_{BATCH}": many / BATCH,
        f"images_per_second_in_batch_of_{BATCH}": 1e3 * BATCH / many,
    }


def _texts(session: TextSession, seconds: float) -> dict[str, float]:
    """Milliseconds of a token at the beginning and at the end of the context, and of a prompt that fills it."""
    import numpy as np

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

    first, last, whole = _medians([writes(0), writes(context - count), read], seconds)
    return {
        "context": context,
        "ms_per_token_at_beginning": first / count,
        "tokens_per_second_at_beginning": 1e3 * count / first,
        "ms_per_token_at_end": last / count,
        "tokens_per_second_at_end": 1e3 * count / last,
        "prompt_ms": whole,
        "prompt_tokens_per_second": 1e3 * context / whole,
    }


def _medians(jobs: list[Callable[[], object]], seconds: float) -> list[float]:
    """Milliseconds of each job; they take turns until the time is over, so that the machine's moods hit all alike."""
    times: list[list[float]] = [[] for _ in jobs]
    for job in jobs:
        job()
    end = time.perf_counter() + seconds
    while len(times[0]) < LEAST_SAMPLES or time.perf_counter() < end:
        for job, values in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            values.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(values) for values in times]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print(result: dict[str, Any]) -> None:
    print(f"{printable(result['file'])}: {result['file_bytes']:,} bytes, loaded in {result['load_ms']:.1f} ms")
    print(f"engine {result['isa']}, {result['precision']}; medians")
    for run in result["runs"]:
        print(
            f"  {run['threads']} thread{'s' if run['threads'] > 1 else ''}, {run['memory_bytes']:,} bytes of memory in the engine"
        )
        if result["kind"] == "images":
            lines = [
                ("an image", run["ms_per_image"], run["images_per_second"], "images/s"),
                (
                    f"an image of a batch of {BATCH}",
                    run[f"ms_per_image_in_batch_of_{BATCH}"],
                    run[f"images_per_second_in_batch_of_{BATCH}"],
                    "images/s",
                ),
            ]
        else:
            lines = [
                (
                    "a token at the beginning of the context",
                    run["ms_per_token_at_beginning"],
                    run["tokens_per_second_at_beginning"],
                    "tokens/s",
                ),
                ("a token at its end", run["ms_per_token_at_end"], run["tokens_per_second_at_end"], "tokens/s"),
                (
                    f"a prompt of {run['context']} tokens",
                    run["prompt_ms"],
                    run["prompt_tokens_per_second"],
                    "tokens/s",
                ),
            ]
        for name, ms, per_second, unit in lines:
            print(f"    {name:<40} {ms:10.3f} ms {per_second:12,.1f} {unit}")
