"""Build the fuzzer of the loader and run it; docs/testing.md tells what it does and how to repeat a finding.

python engine/fuzz/fuzz.py --runs 10000000 --jobs 2
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/fuzz"
ENGINE = ROOT / "build/fuzz-engine"
TARGET = ENGINE / "fuzz_load"
COMPILERS = ["clang++-19", "clang++", *(f"clang++-{n}" for n in range(25, 13, -1))]
# libFuzzer needs to see which branches are taken. Comparisons are not followed and stacks are not copied: each would take a good part of the time.
FLAGS = "-fno-sanitize-recover=all -fsanitize-coverage=inline-8bit-counters,pc-table -fsanitize-address-use-after-return=never"
# No traces of allocations while it searches: they take time, and a finding that is run again has them.
SEARCH = "malloc_context_size=0:quarantine_size_mb=4:max_malloc_fill_size=64"
# The harness allows 16 MB of activations: one allocation of 256 MB, or 20 s for a file, is a finding.
# Damaged copies that are tried with each file of libFuzzer's (damaged_copies in fuzz_load.cpp).
COPIES = 4
LIMITS = ["-max_len=2400", "-entropic=0", "-rss_limit_mb=2048", "-malloc_limit_mb=256", "-timeout=20"]


def find_compiler() -> str | None:
    """A clang++ that links libFuzzer."""
    for name in COMPILERS:
        if shutil.which(name) is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "empty.cpp"
            source.write_text(
                "#include <cstddef>\n#include <cstdint>\n"
                'extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t*, std::size_t) { return 0; }\n'
            )
            command = [name, "-std=c++20", "-fsanitize=fuzzer,address,undefined", str(source), "-o", f"{folder}/empty"]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return name
    return None


def tool(name: str) -> str:
    """A program of this Python's environment, else the system's."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def build(compiler: str) -> None:
    configure = [
        tool("cmake"), "-S", ROOT, "-B", ENGINE, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={shutil.which(tool('ninja'))}",
        f"-DCMAKE_CXX_COMPILER={compiler}", "-DCMAKE_BUILD_TYPE=Release", "-DONEBIT_BUILD_PYTHON=OFF", "-DONEBIT_BUILD_FUZZER=ON",
        "-DONEBIT_SANITIZE=address,undefined", f"-DCMAKE_CXX_FLAGS={FLAGS}",
    ]  # fmt: skip
    if shutil.which("ccache"):
        configure.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
    subprocess.run([str(part) for part in configure], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([tool("cmake"), "--build", str(ENGINE), "--target", "fuzz_load"], check=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "ONEBIT_CALIBRATION": "off"}
    shutil.rmtree(BUILD / "seeds", ignore_errors=True)
    subprocess.run([sys.executable, ROOT / "engine/fuzz/corpus.py", BUILD / "seeds"], check=True, env=environment)


class Job:
    """One process of the fuzzer, and what it last said."""

    def __init__(self, number: int, runs: int, seconds: int, seed: int) -> None:
        self.log = BUILD / f"job-{number}.log"
        self.runs, self.peak_mb = 0, 0
        units = -(-runs // (1 + COPIES)) if runs > 0 else runs
        command = [
            TARGET, BUILD / "corpus", BUILD / "seeds", f"-dict={BUILD / 'words.dict'}", f"-artifact_prefix={BUILD}/findings/", f"-runs={units}",
            f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1", "-reload=30", *LIMITS,
        ]  # fmt: skip
        environment = os.environ | {"ASAN_OPTIONS": SEARCH, "ONEBIT_CALIBRATION": "off"}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
        )
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.log.open("w") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                if line.startswith("#"):
                    digits = line[1:].split(None, 1)[0]
                    self.runs = (1 + COPIES) * int(digits) if digits.isdigit() else self.runs
                elif line.startswith("stat::number_of_executed_units:"):
                    self.runs = (1 + COPIES) * int(line.split()[1])
                elif line.startswith("stat::peak_rss_mb:"):
                    self.peak_mb = int(line.split()[1])


def search(runs: int, seconds: int, jobs: int, seed: int) -> int:
    """Run until so many files, so many seconds or a finding; gives the exit status."""
    for name in ("corpus", "findings"):
        (BUILD / name).mkdir(parents=True, exist_ok=True)
    old = set((BUILD / "findings").iterdir())
    begun = time.monotonic()
    running = [Job(i, -(-runs // jobs) if runs else -1, seconds, seed + i) for i in range(jobs)]
    try:
        while any(job.process.poll() is None for job in running):
            time.sleep(1)
            if sys.stderr.isatty():
                print(
                    f"\r{sum(job.runs for job in running)} files, {time.monotonic() - begun:.0f} s ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            if any(job.process.poll() not in (None, 0) for job in running):
                break
    finally:
        failed = [job for job in running if job.process.poll() not in (None, 0)]
        for job in running:
            job.process.terminate()
        for job in running:
            job.thread.join()
    took = time.monotonic() - begun
    total = sum(job.runs for job in running)
    print(
        f"{total} files in {took:.0f} s, {total / max(took, 1):.0f} a second in {jobs} processes, most memory {max(j.peak_mb for j in running)} MB"
    )
    found = sorted(set((BUILD / "findings").iterdir()) - old)
    if not found and not failed:
        print("no finding")
        return 0
    for job in failed:
        told = [
            line
            for line in job.log.read_text().splitlines()
            if "SUMMARY" in line or "runtime error" in line or "fuzz_load:" in line
        ]
        print("\n".join([*told, f"all that it said: {job.log}"]))
    for path in found:
        print(
            f"finding: {path}\n  repeat it: {TARGET} {path}\n  make it smaller: {TARGET} -minimize_crash=1 -runs=20000 {path}"
        )
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000_000, help="files in all; 0: until the time is over")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long; 0: as long as the files take")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--seed", type=int, default=1, help="of chance")
    parser.add_argument(
        "--check", action="store_true", help="only say whether there is a compiler for it; 0 where there is"
    )
    options = parser.parse_args()
    if options.jobs < 1 or options.runs < 0 or options.seconds < 0 or not options.runs + options.seconds:
        parser.error("--jobs: use 1 or more; --runs or --seconds: use 1 or more of either")
    compiler = find_compiler()
    if compiler is None:
        print(
            "[fuzz] found no clang with libFuzzer (clang++, clang++-14 to clang++-25): on Debian, apt-get install clang-19 libfuzzer-19-dev",
            file=sys.stderr,
        )
        return 3
    if options.check:
        return 0
    build(compiler)
    return search(options.runs, options.seconds, options.jobs, options.seed)


if __name__ == "__main__":
    sys.exit(main())
