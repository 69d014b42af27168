"""Run the tests built by each compiler, under each Python and with each instruction set, and write down what passed.

    python tests/matrix.py --compilers g++-12 clang++-19 zig --pythons .venv/bin/python .venv-3.12/bin/python --record

For each compiler: the engine's own tests, then the Python module and the tests that run it. `zig` is the Python package ziglang, of the first
Python. Each Python must have what the tests need: `pip install ".[train,dev]"`. With `--sets` the first compiler and the first Python run with each
instruction set of this machine too. `--pairs` gives every compiler one Python and every Python one compiler, in place of all combinations.
`--record` keeps the rows in docs/matrix.json, where a row takes the place of the one of the same machine, compiler, Python, set and tests, and
writes docs/matrix.md from them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "docs/matrix.json", ROOT / "docs/matrix.md"
TESTS = ["tests/engine", "tests/runtime", "tests/packing"]
KEY = ("machine", "compiler", "python", "isa", "tests")
COLUMNS = ("compiler", "python", "isa", "tests", "result", "seconds", "date", "commit")
SETS = ("scalar", "avx2", "avx512", "amx", "neon", "neon_dotprod")
HEAD = """# What was tested where

Each row is a run of tests: built by a compiler, under a Python, with an instruction set. The engine's tests compare all sets of the machine with
each other; the tests in Python run with the best one unless a row names another. `make matrix` runs what the machine has and writes this page;
rows of other machines stay.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compilers", nargs="+", default=["g++"], help="C++ compilers, or zig (default %(default)s)")
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], help="interpreters (default this one)")
    parser.add_argument("--pairs", action="store_true", help="each compiler and each Python once, not all combinations")
    parser.add_argument(
        "--sets", action="store_true", help="each instruction set too, with the first compiler and Python"
    )
    parser.add_argument("--tests", nargs="+", default=TESTS, help="of pytest (default %(default)s)")
    parser.add_argument("--skip-engine", action="store_true", help="leave the engine's own tests out")
    parser.add_argument("--record", action="store_true", help=f"keep the rows in {RECORD.name} and write {PAGE.name}")
    arguments = parser.parse_args()
    rows = []
    for row in run_all(arguments):
        rows.append(row)
        print(line(row), flush=True)
        if arguments.record:
            record(row)
    failed = sum(not row["passed"] for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} runs passed")
    return 1 if failed else 0


def run_all(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    pythons = [Path(shutil.which(python) or python).absolute() for python in arguments.pythons]
    for number, compiler in enumerate(arguments.compilers):
        build = Build(compiler, pythons[0])
        if not arguments.skip_engine:
            yield build.engine_tests()
        chosen = pythons
        if arguments.pairs:
            # With more Pythons than compilers the last compiler takes what is left.
            last = number == len(arguments.compilers) - 1
            chosen = pythons[number:] if last and number < len(pythons) else [pythons[number % len(pythons)]]
        for python in chosen:
            first = number == 0 and python == pythons[0]
            yield from build.python_tests(python, arguments.tests, SETS if arguments.sets and first else ())


class Build:
    """What one compiler makes, by the Makefile's targets.

    Args:
        compiler: a command, or "zig".
        python: has cmake, ninja and, for zig, ziglang.
    """

    def __init__(self, compiler: str, python: Path) -> None:
        self.variables = [f"BIN={python.parent}", "INSTALLED=", f"CXX={compiler}"]
        words = [compiler, "--version"]
        if compiler == "zig":
            self.variables[2] = "TOOLCHAIN=zig"
            words = [str(python), "-m", "ziglang", "c++", "--version"]
        found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        version = re.search(r"\d+\.\d+\.\d+", found)
        name = "clang" if "clang" in found else "gcc"
        self.name = f"{name} {version[0] if version else '?'}{' (zig)' if compiler == 'zig' else ''}"

    def make(self, target: str, *variables: str) -> tuple[bool, str]:
        """Whether a target was made, and what was printed."""
        words = ["make", "--no-print-directory", target, *self.variables, *variables]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stdout[-6000:], done.stderr[-6000:], file=sys.stderr)
        return done.returncode == 0, done.stdout

    def engine_tests(self) -> dict[str, Any]:
        start = time.monotonic()
        passed, printed = self.make("engine-test")
        found = re.search(r"\d+% tests passed.*", printed)
        return self.row(None, "all", "ctest", passed, found[0] if found else "does not build", start)

    def python_tests(self, python: Path, tests: list[str], sets: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        start, name = time.monotonic(), " ".join(tests)
        version = ask(python, "import platform; print(platform.python_version())")
        variables = [f"MODULE_PYTHON={python}"]
        passed, printed = self.make("module-test", *variables, f"MODULE_TESTS={name}")
        yield self.row(version, "best", name, passed, summary(printed), start)
        folder = self.make("module-folder", *variables)[1].strip()
        environment = {**os.environ, "PYTHONPATH": str(ROOT / folder / "package")}
        for isa in [isa for isa in sets if runs_with(isa, python, environment)]:
            start = time.monotonic()
            words = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *tests]
            done = subprocess.run(
                words, cwd=ROOT, env=environment | {"ONEBIT_ISA": isa}, capture_output=True, text=True
            )
            if done.returncode != 0:
                print(done.stdout[-6000:], file=sys.stderr)
            yield self.row(version, isa, name, done.returncode == 0, summary(done.stdout), start)

    def row(self, python: str | None, isa: str, tests: str, passed: bool, result: str, start: float) -> dict[str, Any]:
        return {
            "machine": machine(),
            "compiler": self.name,
            "python": python or "",
            "isa": isa,
            "tests": tests,
            "passed": passed,
            "result": result,
            "seconds": round(time.monotonic() - start),
            "date": datetime.date.today().isoformat(),
            "commit": commit(),
        }


def summary(printed: str) -> str:
    """What pytest says at its end, without the time."""
    lines = [line for line in printed.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    return re.sub(r" in [\d.]+s.*", "", lines[-1]).strip("= ") if lines else "does not build or run"


def ask(python: Path, program: str) -> str:
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def runs_with(isa: str, python: Path, environment: dict[str, str]) -> bool:
    """Whether this machine has an instruction set."""
    program = f"import onebit; onebit.load('books', isa={isa!r})"
    return subprocess.run([python, "-c", program], env=environment, capture_output=True).returncode == 0


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "?"


def machine() -> str:
    """The processor and what of it the engine uses, as Linux tells them."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    flags = set((re.search(r"(?:flags|Features)\s*: (.*)", text) or [text, ""])[1].split())
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_vpopcntdq", "amx_int8", "asimd", "asimddp")
    used = " ".join(flag for flag in known if flag in flags)
    return f"{model[1] if model else os.uname().machine}: {used or 'no vector set'}"


def line(row: dict[str, Any]) -> str:
    word = "passed" if row["passed"] else "FAILED"
    python = f"Python {row['python']}, " if row["python"] else ""
    return f"{word}: {row['compiler']}, {python}set {row['isa']}, {row['tests']}: {row['result']} ({row['seconds']} s)"


def record(row: dict[str, Any]) -> None:
    rows = json.loads(RECORD.read_text()) if RECORD.exists() else []
    rows = [old for old in rows if any(old[key] != row[key] for key in KEY)] + [row]
    rows.sort(key=lambda row: [row[key] for key in KEY])
    RECORD.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    PAGE.write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """docs/matrix.md."""
    text = HEAD
    for name in dict.fromkeys(row["machine"] for row in rows):
        text += f"\n## {name}\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"
        for row in rows:
            if row["machine"] == name:
                result = row["result"] if row["passed"] else f"**failed**: {row['result']}"
                cells = [{**row, "result": result}[column] for column in COLUMNS]
                text += "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |\n"
    return text


if __name__ == "__main__":
    sys.exit(main())
