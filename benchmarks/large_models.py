"""Language models of billions of parameters with random weights: write one as GGUF, and measure memory, load and speed of an imported one.

    python benchmarks/large_models.py write bonsai-1.7b random.gguf
    onebit import random.gguf --trust --out random.onebit
    python benchmarks/large_models.py measure random.onebit [--threads 1 2] [--prompt 512] [--context 8192] [--cache int8] [--json FILE]

`write` knows the shapes of Bonsai 1.7B, 4B and 8B (bits in groups of 128, Q1_0) and of BitNet b1.58 2B4T (ternary, I2_S, with a float16
table). Speed and memory do not depend on the weights. `measure` runs each number of threads in a process of its own. It prints the seconds of a
load from a warm cache of the disk, the resident memory after it, and after a prompt and some tokens. It prints the milliseconds of a token and
of a prompt, and with `--context` those of a token after 128 and after so many tokens. Times are those of the clock, then those that the
process used: on a busy machine with one thread, the second say more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from language_model_files import SHAPES, Sizes, write_model

# A network of this shape runs in a second: for tests.
TINY = Sizes("qwen3", 2, 256, 512, 4, 2, 64, 512, 16384)
LARGE = {name: sizes for name, sizes in SHAPES.items() if name.startswith(("bonsai", "bitnet"))} | {"tiny": TINY}


def write(sizes: Sizes, path: Path) -> None:
    """Write a GGUF file of random weights, in the types in which such a model is published."""
    if sizes.architecture == "bitnet":
        write_model(path, sizes, "I2_S", "F16", "bitnet-b1.58")
    else:
        write_model(path, sizes, "Q1_0", "Q1_0")


# What a measured process does. It prints one line of JSON.
PROCESS = """
import json, statistics, sys, time
import numpy as np
import onebit, onebit.runtime.text, onebit._engine

path, threads, prompt, context, cache = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] or None

def resident():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {"MB": int(lines["VmRSS"].split()[0]) // 1024, "peak MB": int(lines["VmHWM"].split()[0]) // 1024}

def timed(job):
    start, used = time.perf_counter(), time.process_time()
    job()
    return (time.perf_counter() - start) * 1e3, (time.process_time() - used) * 1e3

def token_ms(sequence, count):
    times = [timed(lambda: sequence.feed([i % 200])) for i in range(count)]
    return [statistics.median(of) for of in zip(*times)]

found = {"threads": threads, "before": resident()}
start, used = time.perf_counter(), time.process_time()
session = onebit.load(path, threads=threads, cache=cache)
found["load s"] = [time.perf_counter() - start, time.process_time() - used]
found["cache"] = session.cache
with session.sequence() as sequence:
    sequence.feed([1])
    found["after load"] = resident()
    sequence.feed([1] * 8)
    found["token ms"] = token_ms(sequence, 24)
chance = np.random.default_rng(1)
if prompt:
    tokens = chance.integers(0, 200, prompt).tolist()
    with session.sequence() as sequence:
        found["prompt ms"] = timed(lambda: sequence.feed(tokens))
        found["after prompt"] = resident()
if context:
    with session.sequence() as sequence:
        sequence.feed(chance.integers(0, 200, 128).tolist())
        found["token ms at 128"] = token_ms(sequence, 12)
        found["long prompt ms"] = timed(lambda: sequence.feed(chance.integers(0, 200, context - 140).tolist()))
        found[f"token ms at {context}"] = token_ms(sequence, 12)
        found["after context"] = resident()
print(json.dumps(found))
"""


def measure(path: Path, threads: int, prompt: int, context: int, cache: str) -> dict[str, Any]:
    """The figures of one process."""
    with path.open("rb") as file:  # into the disk's cache
        while file.read(1 << 24):
            pass
    arguments = [str(path), str(threads), str(prompt), str(context), cache]
    result = subprocess.run([sys.executable, "-c", PROCESS, *arguments], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    found: dict[str, Any] = json.loads(result.stdout)
    return {"file": path.name, "file MB": path.stat().st_size >> 20} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writer = verbs.add_parser("write", help="write a GGUF file of random weights")
    writer.add_argument("shape", choices=LARGE)
    writer.add_argument("out", type=Path)
    meter = verbs.add_parser("measure", help="measure an imported model")
    meter.add_argument("file", type=Path)
    meter.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    meter.add_argument("--prompt", type=int, default=512, help="tokens of a prompt; 0: none")
    meter.add_argument("--context", type=int, default=0, help="measure a token after so many; 0: do not")
    meter.add_argument("--cache", choices=("", "bf16", "int8"), default="")
    meter.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    if args.verb == "write":
        return write(LARGE[args.shape], args.out)
    found = []
    for threads in args.threads:
        found.append(measure(args.file, threads, args.prompt, args.context, args.cache))
        for name, value in found[-1].items():
            print(f"{name:24}", [round(v, 3) for v in value] if isinstance(value, list) else value)
        print(flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
