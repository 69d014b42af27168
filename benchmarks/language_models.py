"""Compare language models of one and two bits in several engines, by turns in one run: tokens a second, and a prompt.

    python benchmarks/language_models.py [--shape bonsai-1.7b] [--type Q1_0] [--head Q1_0] [--threads 1 2] [--python PYTHON] [--out FOLDER]

Makes a GGUF file of the shape with random weights, imports it, and runs it in the engine, in llama.cpp (`llama-cpp-python`) and in ik_llama.cpp
(`ik-llama-cpp-python`). --python names the interpreter of an environment that has these two, by default this one. Prints, and writes to
OUT/SHAPE-TYPE.json, the medians of a token after a prompt of 16 tokens and of a prompt of 512 tokens: the time that passed, and the processors' time.
Ratios, and the share of the rate at which memory can be read, are of the processor's time with one thread, else of the time that passed. What is not
installed is named.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from language_model_files import SHAPES, TYPES, bytes_of_a_token, write_model
from measure import cpu_name, interleaved, pin
from peer_process import Process

ENGINES = Path(__file__).with_name("language_model_engines.py")
# For these types an engine has a form of its own of the same ternary weights, and its own name of the architecture.
FORMS = {("ik_llama.cpp", "bitnet"): ("IQ2_BN", "bitnet-b1.58"), ("onebit", "bitnet"): ("I2_S", "bitnet-b1.58")}
JOBS = ("decode", "prompt")
READ_BYTES = 400 << 20
# Threads of the turn before may still be spinning.
PAUSE_SECONDS = 0.05


def read_rate(threads: int) -> float:
    """GB a second at which this many threads read memory: the fastest of some reads of more than caches hold.

    With one thread it is the processor's time, as in the tables.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    blocks = [np.ones(READ_BYTES // threads, np.uint8) for _ in range(threads)]
    best = np.inf
    for _ in range(5):
        readers = [threading.Thread(target=block.max) for block in blocks]
        start = clock()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = min(best, clock() - start)
    return READ_BYTES / best / 1e9


class Engine(Process):
    """An engine with a model loaded, or `failure` says why not."""

    def __init__(self, name: str, python: str, file: Path, threads: int, log: Path) -> None:
        super().__init__([name, str(file), str(threads)], threads, log, str(ENGINES), python)

    def turn(self, job: str) -> list[Any]:
        """Milliseconds of a job's runs, those that passed and those that were computed; empty if it fails."""
        time.sleep(PAUSE_SECONDS)
        times: list[Any] = self.ask(job).get("ms", [])
        return times


def make_files(folder: Path, shape: str, kind: str, head: str) -> dict[str, Path]:
    """The file of each engine, the engine's own imported."""
    from onebit.importing import import_model

    sizes, made = SHAPES[shape], {}
    for engine in ("onebit", "llama.cpp", "ik_llama.cpp"):
        own, architecture = FORMS.get((engine, sizes.architecture), (kind, sizes.architecture))
        path = folder / f"{shape}-{own}-{head}-{architecture}.gguf"
        if not path.exists():
            print(f"writing {path.name}", file=sys.stderr)
            write_model(path, sizes, own, head, architecture)
        made[engine] = path
    imported = made["onebit"].with_suffix(".onebit")
    if not imported.exists():
        print(f"importing {imported.name}", file=sys.stderr)
        import_model(made["onebit"], imported)
    made["onebit"] = imported
    return made


def measure(
    files: dict[str, Path], python: str, threads: int, repeats: int, log: Path
) -> tuple[dict[str, dict[str, list[Any]]], list[str]]:
    """The times of each engine's jobs, and a line for each engine: how it runs, or why it does not."""
    engines = {
        name: Engine(name, sys.executable if name == "onebit" else python, file, threads, log)
        for name, file in files.items()
    }
    lines = [
        f"{name}: absent, {engine.failure}" if engine.failure else f"{name}: {engine.greeting.get('about', '')}"
        for name, engine in engines.items()
    ]
    turns = {
        (name, job): lambda engine=engine, job=job: engine.turn(job)
        for name, engine in engines.items()
        if not engine.failure
        for job in JOBS
    }
    times = interleaved(turns, repeats)
    for engine in engines.values():
        engine.close()
    found = {
        name: {job: times[name, job] for job in JOBS} for name, _ in turns if all(times[name, job] for job in JOBS)
    }
    return found, lines


def table(times: dict[str, dict[str, list[Any]]], token_bytes: dict[str, int], rate: float, threads: int) -> str:
    """Medians as Markdown, with what each engine takes in terms of the first one's time: of the processor's with one thread, else of what passed."""
    lines = [
        "| engine | ms a token | computing | x | of the memory's rate | prompt of 512, ms | computing | x |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    first: dict[str, float] = {}
    for name, jobs in times.items():
        passed, computed = ({job: statistics.median(t[i] for t in ts) for job, ts in jobs.items()} for i in (0, 1))
        taken = computed if threads == 1 else passed
        first = first or taken
        share = token_bytes[name] / (taken["decode"] * 1e6) / rate
        ratios = {job: taken[job] / first[job] for job in JOBS}
        lines.append(
            f"| {name} | {passed['decode']:.2f} | {computed['decode']:.2f} | {ratios['decode']:.2f} | {share:.0%} "
            f"| {passed['prompt']:.0f} | {computed['prompt']:.0f} | {ratios['prompt']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--type", choices=TYPES, default="Q1_0", help="of the matrices inside layers")
    parser.add_argument(
        "--head", choices=TYPES, help="of the embedding, which makes the outputs too; by default --type"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which all engines take turns")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the other engines")
    parser.add_argument("--files", type=Path, help="where models are kept; by default they are made anew")
    parser.add_argument("--out", type=Path, default=Path("runs/language-models"))
    arguments = parser.parse_args()
    head, sizes = arguments.head or arguments.type, SHAPES[arguments.shape]
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = make_files(folder, arguments.shape, arguments.type, head)
        kinds = {name: FORMS.get((name, sizes.architecture), (arguments.type,))[0] for name in files}
        token_bytes = {name: bytes_of_a_token(sizes, kind, head) for name, kind in kinds.items()}
        for threads in arguments.threads:
            times, lines = measure(
                files, arguments.python, threads, arguments.repeats, arguments.out / "language-models.log"
            )
            pin(threads)
            rate = read_rate(threads)
            print(
                f"\n{arguments.shape}, {arguments.type}, head {head}, {threads} thread{'s'[: threads - 1]}, {cpu_name()}"
            )
            print(f"memory: {rate:.1f} GB/s\n" + "\n".join(lines) + "\n\n" + table(times, token_bytes, rate, threads))
            results.append({"threads": threads, "memory_gb_s": rate, "ms": times, "engines": lines})
    kept = vars(arguments) | {"files": None, "out": None, "cpu": cpu_name(), "results": results}
    (arguments.out / f"{arguments.shape}-{arguments.type}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
