"""Load a server of models, and measure what it makes of a machine: `python benchmarks/serving.py --help`.

Each part starts `onebit serve` in a process of its own, and asks it with plain sockets from this one, which share the processors with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

import onebit

TEXTS = "books-10m"
DIGITS = Path(__file__).parent.parent / "web" / "digits.onebit"
TOKENS = 200


@dataclass
class Server:
    """A server that runs: its port and its process."""

    port: int
    process: int

    def memory(self) -> float:
        """Megabytes of memory that it holds."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def processor(self) -> float:
        """Seconds for which it and its children have computed."""
        own = Path(f"/proc/{self.process}/task/{self.process}/children").read_text("utf-8").split()
        tasks = [task for process in (self.process, *own) for task in Path(f"/proc/{process}/task").iterdir()]
        return sum(int((task / "schedstat").read_text("utf-8").split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def serving(*words: object) -> Iterator[Server]:
    """`onebit serve` with such words on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            command = [sys.executable, "-m", "onebit", "serve", *map(str, words), "--port", "0"]
            process = subprocess.Popen(command, stderr=errors)
        try:
            while not (found := re.search(r"at http://[^:]+:(\d+)", log.read_text("utf-8"))):
                if process.poll() is not None:
                    raise SystemExit(log.read_text("utf-8"))
                time.sleep(0.02)
            server = Server(int(found[1]), process.pid)
            while not asyncio.run(get(server, "/ready")).startswith(b"HTTP/1.1 200"):
                time.sleep(0.02)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def get(server: Server, path: str) -> bytes:
    """The whole answer to GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def metric(server: Server, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = (await get(server, "/metrics")).decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}(\{{.*\}})? ", line))


def post(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """A request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def stream(server: Server, fields: dict[str, object]) -> AsyncIterator[bytes]:
    """The pieces of a stream of events, as they arrive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(post("/v1/completions", json.dumps({**fields, "stream": True}).encode()))
        ended = b""
        while not ended.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
            piece = await reader.read(1 << 16)
            if not piece:
                raise ConnectionError(ended.decode("utf-8", "replace"))
            ended = (ended + piece)[-64:]
            yield piece
    finally:
        writer.close()


async def times_of_tokens(server: Server, seed: int, tokens: int) -> list[float]:
    """When each token of a text arrived. Tokens of one piece arrived together."""
    times: list[float] = []
    async for piece in stream(server, {"prompt": "It was", "seed": seed, "max_tokens": tokens}):
        now = time.perf_counter()
        times += [now] * piece.count(b'"finish_reason": null')
    return times


@dataclass
class Rates:
    """What some clients got at once, or a session.

    Args:
        tokens: a second, in all.
        spread: the 99th percentile between two tokens of a client over their mean.
        microseconds: for which a token took a processor: other work on the machine hardly changes it.
    """

    tokens: float
    spread: float
    microseconds: float


async def clients(server: Server, count: int, tokens: int) -> Rates:
    """Clients that write at once."""
    began, computed = time.perf_counter(), server.processor()
    all_times = await asyncio.gather(*(times_of_tokens(server, seed, tokens) for seed in range(count)))
    made = sum(map(len, all_times))
    rate = made / (max(times[-1] for times in all_times if times) - began)
    gaps = np.concatenate([np.diff(times) for times in all_times if len(times) > 1])
    return Rates(
        rate, float(np.percentile(gaps, 99) / max(gaps.mean(), 1e-9)), 1e6 * (server.processor() - computed) / made
    )


def session_rates(tokens: int, seconds: float) -> Rates:
    """One session, text after text: with one thread or with all, whichever is faster."""
    return max((_session_rates(threads, tokens, seconds / 2) for threads in (1, None)), key=lambda found: found.tokens)


def _session_rates(threads: int | None, tokens: int, seconds: float) -> Rates:
    session = onebit.load(TEXTS, threads=threads)
    made, began, computed, seed = 0, time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        made += len(session.write("It was", tokens, seed=seed).tokens)
        seed += 1
    return Rates(made / (time.perf_counter() - began), 1.0, 1e6 * (time.process_time() - computed) / made)


def measure_texts(args: argparse.Namespace) -> None:
    """32 clients at once, and one, compared with a session in turns."""
    rows: dict[int, list[tuple[Rates, Rates]]] = {1: [], args.clients: []}
    with serving(TEXTS, "--workers", args.workers, *(("--threads", args.threads) if args.threads else ())) as server:
        asyncio.run(clients(server, 2, 20))
        for _ in range(args.rounds):
            for count, row in rows.items():
                alone = session_rates(args.tokens, args.seconds)
                row.append((asyncio.run(clients(server, count, args.tokens)), alone))
    for count, row in rows.items():
        served, alone = (
            Rates(*(float(np.median(values)) for values in zip(*map(astuple, column), strict=True)))
            for column in zip(*row, strict=True)
        )
        print(
            f"{count} clients: {served.tokens:,.0f} tokens/s, a session {alone.tokens:,.0f}: {served.tokens / alone.tokens:.2f}x; "
            f"p99 / mean {served.spread:.1f}; a token takes a processor {served.microseconds:.0f} us, "
            f"of a session {alone.microseconds:.0f} us"
        )
        if count == 1:
            print(f"  one client: {1e3 / served.tokens - 1e3 / alone.tokens:+.3f} ms a token more than a session")


def measure_images(args: argparse.Namespace) -> None:
    """Requests with an image, from several connections, compared with the session in a loop."""
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    request = post("/v1/classify", file.getvalue(), "image/jpeg")
    session = onebit.load(args.images or DIGITS)
    ratios = []

    async def one(server: Server, end: float) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        made = 0
        while time.perf_counter() < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or not found:
                raise SystemExit(head.decode())
            await reader.readexactly(int(found[1]))
            made += 1
        writer.close()
        return made

    async def many(server: Server) -> float:
        began = time.perf_counter()
        made = await asyncio.gather(*(one(server, began + args.seconds) for _ in range(8)))
        return sum(made) / (time.perf_counter() - began)

    def loop() -> float:
        made, began = 0, time.perf_counter()
        while time.perf_counter() - began < args.seconds:
            session.classify([io.BytesIO(file.getvalue())])
            made += 1
        return made / (time.perf_counter() - began)

    with serving(args.images or DIGITS) as server:
        asyncio.run(many(server))
        for _ in range(args.rounds):
            alone, rate = loop(), asyncio.run(many(server))
            ratios.append((rate / alone, rate, alone))
    ratio, rate, alone = (float(np.median(column)) for column in zip(*ratios, strict=True))
    print(f"images: {rate:,.0f} requests/s, a session in a loop {alone:,.0f}: {ratio:.2f}")


async def text_of(server: Server, fields: dict[str, object]) -> str:
    """The text of a stream."""
    body = b"".join([piece async for piece in stream(server, fields)])
    found = re.findall(rb"data: (\{.*?\})\n\n", body)
    return "".join(choice["text"] for event in found for choice in json.loads(event)["choices"])


def soak(args: argparse.Namespace) -> None:
    """Many clients for a long time: each text is compared with the session's, and the server's memory is watched."""
    session = onebit.load(TEXTS, threads=1)
    prompts = ["It was", "The", "Once upon a time there was", "She said: " * 15]
    cases = [(prompts[i % len(prompts)], i, random.Random(i).randrange(5, 60)) for i in range(64)]
    expected = ["".join(session.generate(prompt, length, seed=seed)) for prompt, seed, length in cases]
    wrong = done = refused = 0
    memory: list[tuple[float, float]] = []

    async def client(server: Server, number: int, end: float) -> None:
        nonlocal wrong, done, refused
        chance = random.Random(number)
        while time.perf_counter() < end:
            place = chance.randrange(len(cases))
            prompt, seed, length = cases[place]
            try:
                text = await text_of(server, {"prompt": prompt, "seed": seed, "max_tokens": length})
            except ConnectionError as error:
                if "429" not in str(error):
                    wrong += 1
                refused += 1
                await asyncio.sleep(1)
                continue
            done += 1
            wrong += text != expected[place]

    async def watch(server: Server, began: float, end: float) -> None:
        while time.perf_counter() < end:
            memory.append((time.perf_counter() - began, server.memory()))
            await asyncio.sleep(1)

    async def all_of_it(server: Server) -> float:
        began = time.perf_counter()
        end = began + args.seconds
        tasks: list[Awaitable[None]] = [client(server, number, end) for number in range(args.clients)]
        await asyncio.gather(watch(server, began, end), *tasks)
        return await metric(server, "onebit_texts_live")

    with serving(TEXTS, "--max-queue", max(256, args.clients)) as server:
        left = asyncio.run(all_of_it(server))
    settled = [megabytes for second, megabytes in memory if second > min(60, args.seconds / 3)]
    growth = (settled[-1] / settled[0] - 1) if settled else float("nan")
    print(
        f"soak: {args.clients} clients, {args.seconds:g} s: {done:,} texts, {wrong} wrong, lost or mixed, {refused} refused for a full queue, "
        f"{left:g} left open; memory {memory[0][1]:.0f} MB at first, {settled[-1]:.0f} MB at the end, {growth:+.2%} after settling"
    )
    if wrong or left:
        raise SystemExit(1)


def kill(args: argparse.Namespace) -> None:
    """Clients in processes of their own that are killed in the middle of a stream."""
    body = post("/v1/completions", json.dumps({"prompt": "It was", "max_tokens": 4096, "stream": True}).encode())
    script = (
        "import socket, sys\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        f"s.sendall({body!r})\n"
        "s.recv(100)\nprint(flush=True)\n"
        "while s.recv(100): pass\n"
    )

    async def left(server: Server) -> float:
        end = time.perf_counter() + 10
        while (found := await metric(server, "onebit_texts_live")) and time.perf_counter() < end:
            await asyncio.sleep(0.05)
        return found

    with serving(TEXTS) as server:
        for first in range(0, args.count, 8):
            group = [
                subprocess.Popen([sys.executable, "-SE", "-c", script, str(server.port)], stdout=subprocess.PIPE)
                for _ in range(min(8, args.count - first))
            ]
            for process in group:
                if process.stdout is None or not process.stdout.readline():
                    raise SystemExit("a client got nothing")
                process.kill()
                process.wait()
                process.stdout.close()
        open_at_end = asyncio.run(left(server))
        memory = server.memory()
    print(
        f"kill: {args.count} clients killed in the middle of a stream: {open_at_end:g} sequences left open, {memory:.0f} MB"
    )
    if open_at_end:
        raise SystemExit(1)


async def whole_texts(port: int, count: int, tokens: int) -> float:
    """Tokens a second of clients that ask at once for whole texts, by what the answers say of their tokens."""

    async def one(seed: int) -> int:
        fields = {"prompt": "It was", "max_tokens": tokens, "seed": seed, "temperature": 0.8, "top_p": 0.9}
        # llama.cpp's server cuts more than that unless it is told.
        body = json.dumps({**fields, "top_k": 0, "min_p": 0.0}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/completions", body))
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head.lower())
        if b" 200 " not in head[:20] or not found:
            raise SystemExit(head.decode())
        answer = json.loads(await reader.readexactly(int(found[1])))
        writer.close()
        return int(answer["usage"]["completion_tokens"])

    began = time.perf_counter()
    made = await asyncio.gather(*(one(seed) for seed in range(count)))
    return sum(made) / (time.perf_counter() - began)


@contextlib.contextmanager
def llama_serving(python: str, model: Path, threads: int) -> Iterator[int]:
    """llama-cpp-python's server of a model; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    options = {"model": model, "port": port, "n_ctx": 1024, "n_threads": threads, "interrupt_requests": "false"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [python, "-m", "llama_cpp.server", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"{python} -m llama_cpp.server ended: pip install 'llama-cpp-python[server]' for it")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def compare_with_llama(args: argparse.Namespace) -> None:
    """Whole texts from this server and from llama-cpp-python's, of models of one size, for 1 client and for 16.

    llama.cpp's models have random weights: a layer of it has three matrices where ours has two, and one matrix for embedding and outputs. It gets
    the number of threads with which it is the fastest, or --threads.
    """
    from language_model_files import SHAPES, write_model

    def measured(port: int) -> dict[int, float]:
        asyncio.run(whole_texts(port, 2, 20))
        return {
            count: float(np.median([asyncio.run(whole_texts(port, count, args.tokens)) for _ in range(args.rounds)]))
            for count in (1, 16)
        }

    with tempfile.TemporaryDirectory() as folder:
        for kind in ("F16", "Q8_0", "Q4_0"):
            path = Path(folder) / f"{kind}.gguf"
            write_model(path, SHAPES[TEXTS], kind, kind)
            with serving(TEXTS) as server:
                own = measured(server.port)
            best = {1: 0.0, 16: 0.0}
            for threads in [args.threads] if args.threads else sorted({1, os.cpu_count() or 1}):
                with llama_serving(args.llama, path, threads) as port:
                    best = {count: max(best[count], rate) for count, rate in measured(port).items()}
            for count, rate in best.items():
                print(
                    f"{kind}, {count} clients: llama.cpp's server {rate:,.0f} tokens/s, onebit {own[count]:,.0f}: "
                    f"{own[count] / rate:.1f}x",
                    flush=True,
                )


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "texts": measure_texts,
    "images": measure_images,
    "soak": soak,
    "kill": kill,
    "llama": compare_with_llama,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, help="what to measure (default all of it)")
    parser.add_argument("--clients", type=int, default=32, help="clients at once (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement (default %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="measurements, of which the median counts (default %(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens of each text (default %(default)s)")
    parser.add_argument("--count", type=int, default=100, help="clients to kill (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the engine (default all)")
    parser.add_argument("--images", metavar="FILE", help="a classifier (default that of the tests)")
    parser.add_argument("--llama", metavar="PYTHON", help="a Python that has llama-cpp-python[server], to compare with")
    parser.add_argument(
        "--short", action="store_true", help="all of it within a minute, as a check and not as a measurement"
    )
    args = parser.parse_args()
    if args.short:
        args.seconds, args.rounds, args.count = 2.0, 1, 24
    if args.part == "llama" and not args.llama:
        parser.error(
            "give --llama PYTHON, a Python that has llama.cpp's server: python -m venv llama; "
            "llama/bin/pip install 'llama-cpp-python[server]'; then --llama llama/bin/python"
        )
    for part in [args.part] if args.part else [part for part in PARTS if part != "llama" or args.llama]:
        if args.short and part == "soak":
            args.seconds, args.clients = 12.0, 64
        PARTS[part](args)


if __name__ == "__main__":
    main()
