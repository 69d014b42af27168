"""Draw what each thread does while a language decoder computes one token, and print the speed-up by several threads.

    python benchmarks/timeline.py [--size small] [--threads 1 2 4 8] [--start 0] [--tokens 400] [--out docs/timeline.png]

Each number of threads has its own process with ONEBIT_TRACE. The fastest token in which every thread took part counts, because other work on the
machine may stop threads. More threads cannot speed up the parts of a token that only one thread works on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from bisect import bisect_left
from pathlib import Path
from typing import Any

from language_decoder import pack_random
from measure import cpu_name

WRITE = """
import sys
import numpy as np
import onebit
path, threads, start, tokens = sys.argv[1], *map(int, sys.argv[2:])
engine = onebit.load(path, threads=threads)._engine
ids = np.random.default_rng(0).integers(3, 1000, start + 1).astype(np.int32)
sequence = engine.open()
if start:
    engine.extend([sequence], [start], ids[:start])
for _ in range(tokens):
    engine.cut(sequence, start)
    engine.extend([sequence], [1], ids[:1])
"""
# Parts of a layer lie on top of their step.
PARTS = {"quantise": "tab:olive", "tables": "tab:orange", "product": "tab:blue", "finish": "tab:red"}
STEPS = {"attention": "tab:green", "gelu": "tab:purple"}

Event = dict[str, Any]


def traced(path: Path, threads: int, start: int, tokens: int, folder: Path) -> list[Event]:
    """The events of a process that computes the same token again and again."""
    trace = folder / f"trace-{threads}.json"
    subprocess.run(
        [sys.executable, "-c", WRITE, str(path), str(threads), str(start), str(tokens)],
        env=os.environ | {"ONEBIT_TRACE": str(trace)},
        check=True,
    )
    events: list[Event] = json.loads(trace.read_text())["traceEvents"]
    return events


def tokens_of(events: list[Event], count: int) -> list[list[Event]]:
    """The events of each of the last `count` tokens: all tokens have the same steps, and the caller's thread is the first one."""
    steps = [event for event in events if event["tid"] == 0 and event["name"] not in PARTS]
    steps.sort(key=lambda event: event["ts"])
    # A prompt's steps come before them and are as many.
    per_token = len(steps) // (count + (len(steps) % count > 0))
    steps = steps[len(steps) - per_token * count :]
    events = sorted(events, key=lambda event: event["ts"])
    begins = [event["ts"] for event in events]
    tokens = []
    for first in range(0, len(steps), per_token):
        last = steps[first + per_token - 1]
        tokens.append(events[bisect_left(begins, steps[first]["ts"]) : bisect_left(begins, last["ts"] + last["dur"])])
    return tokens


def length(token: list[Event]) -> float:
    """Microseconds."""
    return float(max(event["ts"] + event["dur"] for event in token) - token[0]["ts"])


def chosen(tokens: list[list[Event]]) -> tuple[list[Event], float]:
    """The fastest token of those in which other threads than the caller's made most products, and their share of them."""

    def others(token: list[Event]) -> float:
        products = [event for event in token if event["name"] == "product"]
        return sum(event["tid"] != 0 for event in products) / max(1, len(products))

    most = max(map(others, tokens))
    return min((token for token in tokens if others(token) >= 0.95 * most), key=length), most


def draw(lines: dict[int, list[Event]], title: str, path: Path) -> None:
    """A panel for each number of threads, a row for each thread."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(lines), 1, figsize=(14, 1.2 + sum(0.7 + 0.45 * n for n in lines)), sharex=True, squeeze=False,
                                  height_ratios=[0.7 + 0.45 * n for n in lines])  # fmt: skip
    for panel, (threads, token) in zip(panels[:, 0], lines.items(), strict=True):
        begin = token[0]["ts"]
        rows = sorted({event["tid"] for event in token})
        for event in token:
            name = event["name"].split(" ")[0]
            part = name in PARTS
            colour = PARTS.get(name) or STEPS.get(name, "0.75")
            height = 0.8 if part or name in STEPS else 0.9
            panel.barh(rows.index(event["tid"]), event["dur"], height, event["ts"] - begin, color=colour, linewidth=0)
        panel.set_yticks(range(len(rows)), [f"thread {i}" for i in range(len(rows))])
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}: {length(token):.0f} microseconds", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1][0].set_xlabel("microseconds")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (*PARTS.values(), *STEPS.values(), "0.75")]
    figure.legend(
        handles, [*PARTS, *STEPS, "other steps, waiting"], loc="lower center", ncols=7, frameon=False, fontsize=9
    )
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=("tiny", "mini", "small", "large"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--start", type=int, default=0, help="tokens that the text has already")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/timeline.png"))
    arguments = parser.parse_args()

    lines: dict[int, list[Event]] = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "decoder.onebit"
        pack_random(arguments.size, path)
        for threads in arguments.threads:
            events = traced(path, threads, arguments.start, arguments.tokens, Path(name))
            lines[threads], others = chosen(tokens_of(events, arguments.tokens))
            took = length(lines[threads])
            speed = length(lines[arguments.threads[0]]) / took
            print(
                f"{threads} threads: {took:.0f} microseconds, {speed:.2f} times as fast as with {arguments.threads[0]}; "
                f"{100 * others:.0f} % of the products by other threads than the caller's"
            )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw(lines, f"A token of the {arguments.size} decoder, {cpu_name()}", arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
