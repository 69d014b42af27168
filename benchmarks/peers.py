"""Compare whole models in one run: the engine, PyTorch, ONNX Runtime, OpenVINO and llama.cpp on the same shapes.

    pip install torch onnx onnxscript onnxruntime openvino nncf gguf llama-cpp-python matplotlib
    python benchmarks/peers.py --out runs/peers [--threads 1 2] [--only cnn decoder dense] [--repeats 5] [--isa avx2]

onebit does not depend on these libraries. One that cannot be imported, or that fails, is listed as absent with the reason. Writes peers.json,
peers.md (tables) and peers.png into the folder after each workload, and the libraries' output to peers.log. docs/benchmarks.md says what
is measured and how to read it.

--isa avx2 restricts onebit, PyTorch and OpenVINO to AVX2 on a machine with more, through their environment variables. ONNX Runtime and llama.cpp
always use everything that the processor has, and their tables say so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from measure import cpu_features, cpu_name, interleaved
from peer_engines import Competitor, competitors
from peer_process import Peer, make_file
from peer_report import markdown, picture
from peer_workloads import KINDS, multiply_accumulates

import onebit
from onebit.fileformat import write_atomically

PACKAGES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "gguf",
    "llama-cpp-python",
    "numpy",
)
# What keeps libraries from using more of a processor. oneDNN, which PyTorch and OpenVINO compute with, has two names; FBGEMM is PyTorch's int8.
ISA_ENVIRONMENT = {
    "avx2": {
        "ONEBIT_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}
# Engines without such a switch.
UNRESTRICTED = ("ONNX Runtime", "llama.cpp")


def versions() -> dict[str, str]:
    """Of onebit and of all that it is compared with."""
    found = {"onebit": onebit.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def missing_file(competitor: Competitor, folder: Path, log: Path, made: dict[str, str | None]) -> str | None:
    """Make a competitor's files unless they exist. Returns the reason if they cannot be made."""
    for name in competitor.files:
        if name not in made:
            print(f"{time.strftime('%H:%M:%S')} making {name}", flush=True)
            made[name] = make_file(name, folder, log)
        if made[name]:
            return f"{name}: {made[name]}"
    return None


def measure(
    group: dict[int, Competitor],
    threads: int,
    repeats: int,
    folder: Path,
    log: Path,
    made: dict[str, str | None],
    run: dict[str, Any],
) -> None:
    """Measure one workload with this many threads. All competitors take turns, each in its own process. Adds to the run's results and absences."""
    peers: dict[int, Peer] = {}
    failures: dict[int, str] = {}
    try:
        for index, competitor in group.items():
            reason = missing_file(competitor, folder, log, made)
            if reason is None:
                peers[index] = Peer(index, folder, threads, log)
                reason = peers[index].failure
            if reason is not None:
                failures[index] = reason
        turns = {
            (job, index): partial(peer.turn, job)
            for index, peer in peers.items()
            for job in peer.jobs
            if index not in failures
        }
        times = interleaved(turns, repeats)
        failures |= {index: peer.failure for index, peer in peers.items() if peer.failure is not None}
    finally:
        for peer in peers.values():
            peer.close()
    for index, competitor in group.items():
        what = {"workload": competitor.workload, "engine": competitor.engine, "variant": competitor.variant}
        if index in failures:
            # A competitor that failed half way has no figures, because its times come from fewer rounds than the others.
            run["absent"].append(what | {"threads": threads, "reason": failures[index]})
            print(f"{threads} threads, {competitor.name}: absent, {failures[index]}", flush=True)
            continue
        about = peers[index].about
        if run["isa"] and competitor.engine in UNRESTRICTED:
            about += f", not restricted to {run['isa']}"
        run["about"].setdefault(competitor.name, about)
        for job in peers[index].jobs:
            values = times[job, index]
            ms = statistics.median(values)
            count = run["multiply_accumulates"][competitor.workload][competitor.model][job]
            row = {"job": job, "threads": threads, "ms": ms, "ps_per_multiply_accumulate": ms * 1e9 / count}
            row |= {"fastest_ms": min(values), "slowest_ms": max(values), "runs": len(values)}
            run["results"].append(what | row)
            print(f"{threads} threads, {competitor.workload}, {job}, {competitor.name}: {ms:.3f} ms", flush=True)


def save(run: dict[str, Any], out: Path) -> None:
    """Write the three files, each atomically."""
    write_atomically(out / "peers.json", (json.dumps(run, indent=1) + "\n").encode())
    write_atomically(out / "peers.md", markdown(run).encode())
    if run["results"]:
        write_atomically(out / "peers.png", picture(run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=5, help="rounds; two runs count in each")
    parser.add_argument(
        "--isa", choices=sorted(ISA_ENVIRONMENT), help="restrict all engines that support it to this instruction set"
    )
    arguments = parser.parse_args()
    os.environ.update(ISA_ENVIRONMENT.get(arguments.isa, {}))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not all(1 <= threads <= processors for threads in arguments.threads):
        parser.error(f"--threads {arguments.threads}: use 1 to {processors}, the processors that this process may use")
    if arguments.repeats < 1:
        parser.error(f"--repeats {arguments.repeats}: use 1 or more")

    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out / "peers.log"
    log.write_text("")
    counts = multiply_accumulates()
    run: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]]),
        "machine": {
            "cpu": cpu_name(),
            "features": cpu_features(),
            "processors": processors,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "load": list(os.getloadavg()),
        },
        "versions": versions(),
        "multiply_accumulates": {name: of for name, of in counts.items() if name.split()[0] in arguments.only},
        "isa": arguments.isa,
        "results": [],
        "absent": [],
        "about": {},
    }
    made: dict[str, str | None] = {}
    everyone = dict(enumerate(competitors()))
    with tempfile.TemporaryDirectory() as folder:
        for workload in run["multiply_accumulates"]:
            group = {index: competitor for index, competitor in everyone.items() if competitor.workload == workload}
            for threads in arguments.threads:
                measure(group, threads, arguments.repeats, Path(folder), log, made, run)
                save(run, arguments.out)
    print(markdown(run))


if __name__ == "__main__":
    main()
