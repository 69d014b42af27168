"""Run random programs in the NumPy reference, the scalar engine and every instruction set of this machine; see docs/testing.md.

python tests/differential/differential.py --count 10000 --seed 0
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the processes are as many as the cores
sys.path.insert(0, str(Path(__file__).parent))

import compare
import features
import random_programs

DEFAULT_COUNT = 10_000
AT_ONCE = 50  # programs that a process takes
MOST_SHOWN = 5


class Tally:
    """What was seen in some programs."""

    def __init__(self) -> None:
        self.features: set[str] = set()
        self.wrong: list[tuple[int, str]] = []
        self.count = 0
        self.exact = self.loose = self.unjudged = 0.0

    def add(self, other: Tally) -> None:
        self.features |= other.features
        self.wrong += other.wrong
        self.count += other.count
        self.exact += other.exact
        self.loose += other.loose
        self.unjudged += other.unjudged


def tally(first: int, count: int, isas: list[str], extreme: bool) -> Tally:
    """Judge the programs of these seeds."""
    all_of = Tally()
    for seed in range(first, first + count):
        case = random_programs.make(seed, extreme)
        all_of.features |= features.features_of(case)
        all_of.count += 1
        try:
            found = compare.judge(case, isas)
        except Exception as error:  # whatever it is, it belongs to this seed
            all_of.wrong.append((seed, f"{type(error).__name__}: {error}"))
            continue
        all_of.exact += found.exact
        all_of.loose += found.loose
        all_of.unjudged += found.unjudged
        if found.wrong:
            all_of.wrong.append((seed, found.wrong[0]))
    return all_of


def show(seed: int, isas: list[str], extreme: bool) -> None:
    """The smallest program that still disagrees."""
    try:
        case = compare.shrink(random_programs.make(seed, extreme), isas)
        lines = compare.judge(case, isas).wrong
    except Exception as error:
        case, lines = random_programs.make(seed, extreme), [f"{type(error).__name__}: {error}"]
    print(
        f"\nseed {seed}: precision {case.precision}, cache {case.cache}, threads {case.threads}, input {case.x.dtype} {case.x.shape}"
    )
    print(f"  {case.program.to_json()}")
    print("\n".join(f"  {line}" for line in lines))


def crash(parts: list[int], isas: list[str], extreme: bool) -> int:
    """Name the program that ended a process: one process for each program of these parts, until one ends."""
    for seed in (seed for first in parts for seed in range(first, first + AT_ONCE)):
        with ProcessPoolExecutor(1) as pool:
            try:
                pool.submit(tally, seed, 1, isas, extreme).result()
            except BrokenProcessPool:
                print(
                    f"\nseed {seed} crashes: python tests/differential/differential.py --jobs 1 --count 1 --seed {seed}"
                )
                return 1
    print(
        f"\na process ended in one of the {AT_ONCE} programs from seeds {parts}, and does not where they run one by one"
    )
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=DEFAULT_COUNT, help="how many programs")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow it")
    parser.add_argument(
        "--isas",
        default=",".join(compare.SUPPORTED),
        help="instruction sets, comma between them; default all of this machine",
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--extreme", action="store_true", help="let numbers grow to the ends of float32")
    options = parser.parse_args()
    isas = options.isas.split(",")
    if unknown := [isa for isa in isas if isa not in compare.SUPPORTED]:
        parser.error(f"--isas {','.join(unknown)}: this machine has {', '.join(compare.SUPPORTED)}")
    if options.count < 1 or options.jobs < 1:
        parser.error("--count and --jobs: use 1 or more")
    begun = time.monotonic()
    all_of = Tally()
    with ProcessPoolExecutor(options.jobs) as pool:
        end = options.seed + options.count
        parts = {
            pool.submit(tally, first, min(AT_ONCE, end - first), isas, options.extreme): first
            for first in range(options.seed, end, AT_ONCE)
        }
        try:
            for done in as_completed(parts):
                all_of.add(done.result())
                if sys.stderr.isatty():
                    print(
                        f"\r{all_of.count} programs, {len(all_of.wrong)} disagree", end="", file=sys.stderr, flush=True
                    )
        except BrokenProcessPool:
            unfinished = sorted(first for part, first in parts.items() if part.exception() is not None)
            return crash(unfinished[: options.jobs + 1], isas, options.extreme)
    seconds = time.monotonic() - begun
    for seed, _ in sorted(all_of.wrong)[:MOST_SHOWN]:
        show(seed, isas, options.extreme)
    missing = sorted(features.expected_features() - all_of.features)
    print(
        f"{all_of.count} programs in {seconds:.0f} s on {', '.join(isas)} and the NumPy reference: {len(all_of.wrong)} disagree. Of the outputs "
        f"{all_of.exact / all_of.count:.0%} must be exact to the last bit, {all_of.loose / all_of.count:.0%} have a bound above a hundredth of the "
        f"output's size, {all_of.unjudged / all_of.count:.0%} have none."
    )
    if all_of.wrong:
        print("seeds that disagree: " + " ".join(str(seed) for seed, _ in sorted(all_of.wrong)))
        print(
            f"repeat one: python tests/differential/differential.py --count 1 --seed SEED{' --extreme' if options.extreme else ''}"
        )
    if missing and options.count >= DEFAULT_COUNT:
        print("no program had: " + "; ".join(missing))
    return 1 if all_of.wrong or (missing and options.count >= DEFAULT_COUNT) else 0


if __name__ == "__main__":
    sys.exit(main())
