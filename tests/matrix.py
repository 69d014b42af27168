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
    parser.add_argument("--build", type=Path, default=ROOT / "build/matrix", help="folder (default %(default)s)")
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
        build = Build(compiler, pythons[0], arguments.build)
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
    """What one compiler makes.

    Args:
        compiler: a command, or "zig".
        python: has cmake, ninja and, for zig, ziglang.
        folder: of all builds.
    """

    def __init__(self, compiler: str, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder / compiler.replace("/", "_")
        self.options = [f"-DCMAKE_CXX_COMPILER={compiler}"]
        words = [compiler, "--version"]
        if compiler == "zig":
            self.options = [f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/cmake/zig.cmake", f"-DONEBIT_ZIG_PYTHON={python}"]
            words = [str(python), "-m", "ziglang", "c++", "--version"]
        found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        version = re.search(r"\d+\.\d+\.\d+", found)
        name = "clang" if "clang" in found else "gcc"
        self.name = f"{name} {version[0] if version else '?'}{' (zig)' if compiler == 'zig' else ''}"
        if launcher := shutil.which("ccache"):
            self.options.append(f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher}")

    def tool(self, name: str) -> str:
        beside = self.python.parent / name
        return str(beside) if beside.exists() else name

    def cmake(self, folder: Path, *options: str) -> str | None:
        """Configure and build; what went wrong, or None."""
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={self.tool('ninja')}", "-DCMAKE_BUILD_TYPE=Release"]
        for words in (
            ["-S", str(ROOT), "-B", str(folder), *generator, *self.options, *options],
            ["--build", str(folder)],
        ):
            done = subprocess.run([self.tool("cmake"), *words], capture_output=True, text=True)
            if done.returncode != 0:
                return f"does not build: {last_line(done.stderr or done.stdout)}"
        return None

    def engine_tests(self) -> dict[str, Any]:
        start, folder = time.monotonic(), self.folder / "engine"
        wrong = self.cmake(folder, "-DONEBIT_BUILD_TESTS=ON", "-DONEBIT_BUILD_PYTHON=OFF")
        result = wrong or "?"
        if wrong is None:
            words = [self.tool("ctest"), "--test-dir", str(folder), "--output-on-failure"]
            done = subprocess.run(words, capture_output=True, text=True)
            wrong = None if done.returncode == 0 else "failed"
            found = re.search(r"(\d+)% tests passed.*", done.stdout)
            result = found[0] if found else last_line(done.stdout)
            if wrong:
                print(done.stdout, file=sys.stderr)
        return self.row(None, "all", "ctest", wrong is None, result, start)

    def python_tests(self, python: Path, tests: list[str], sets: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        start, name = time.monotonic(), " ".join(tests)
        version = ask(python, "import platform; print(platform.python_version())")
        folder = self.folder / f"python-{version}"
        wrong = self.cmake(folder, "-DONEBIT_BUILD_PYTHON=ON", f"-DPython_EXECUTABLE={python}")
        if wrong:
            yield self.row(version, "best", name, False, wrong, start)
            return
        # The package as it would be installed: the module beside the sources' files.
        package = folder / "package" / "onebit"
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(ROOT / "src/onebit", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        for module in folder.glob("_engine*.so"):
            shutil.copy(module, package)
        environment = {**os.environ, "PYTHONPATH": str(package.parent)}
        supported = [isa for isa in sets if runs_with(isa, python, environment)]
        for isa in ["best", *supported]:
            forced = {} if isa == "best" else {"ONEBIT_ISA": isa}
            words = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *tests]
            done = subprocess.run(words, cwd=ROOT, env=environment | forced, capture_output=True, text=True)
            if done.returncode != 0:
                print(done.stdout[-6000:], file=sys.stderr)
            yield self.row(version, isa, name, done.returncode == 0, last_line(done.stdout), start)
            start = time.monotonic()

    def row(self, python: str | None, isa: str, tests: str, passed: bool, result: str, start: float) -> dict[str, Any]:
        return {
            "machine": machine(),
            "compiler": self.name,
            "python": python or "",
            "isa": isa,
            "tests": tests,
            "passed": passed,
            "result": result.strip("= "),
            "seconds": round(time.monotonic() - start),
            "date": datetime.date.today().isoformat(),
            "commit": commit(),
        }


def ask(python: Path, program: str) -> str:
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def runs_with(isa: str, python: Path, environment: dict[str, str]) -> bool:
    """Whether this machine has an instruction set."""
    program = f"import onebit; onebit.load('books', isa={isa!r})"
    return subprocess.run([python, "-c", program], env=environment, capture_output=True).returncode == 0


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "?"


def last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no output")[:200]


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
