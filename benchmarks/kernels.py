"""The engine's kernels beside the machine's own limits, in one run: how much of what reading and multiplying allow is reached.

    python benchmarks/kernels.py [--threads 1 2] [--isa avx2 avx512] [--seconds 0.5] [--build FOLDER] [--out FOLDER]
    python benchmarks/kernels.py --tiles [--threads 1 2] [--seconds 0.5] [--build FOLDER] [--out FOLDER]
    python benchmarks/kernels.py --callgrind [--build FOLDER] [--out FOLDER]

Builds `engine_benchmarks` with CMake and runs it; writes OUT/kernels.json, OUT/kernels.md and OUT/kernels.png. With --tiles it measures the parts
of a layer of 256 rows by AMX's tiles, and the layer cut in several ways, and writes OUT/tiles.json and OUT/tiles.md: all but the layer needs AVX-512
only. With --callgrind it counts the instructions of each kernel instead, and writes OUT/instructions.json and OUT/instructions.md. docs/kernels.md
tells how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import cpu_name

ROOT = Path(__file__).resolve().parent.parent
# Bars of an instruction set: the whole layer, and the product alone.
COLOURS = {
    "scalar": ("tab:gray", "silver"),
    "avx2": ("tab:orange", "#ffd0a0"),
    "avx512": ("tab:blue", "#a8cbe8"),
    "amx": ("tab:green", "#b0dcb0"),
    "neon": ("tab:orange", "#ffd0a0"),
    "neon_dotprod": ("tab:blue", "#a8cbe8"),
}


def build(folder: Path, jobs: int) -> Path:
    """Compile the measuring program; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    # A virtual environment's own CMake and Ninja are found though the environment is not activated.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DONEBIT_BUILD_BENCHMARKS=ON"]
    if not (folder / "CMakeCache.txt").exists():
        options.append("-DONEBIT_BUILD_PYTHON=OFF")
        if shutil.which("ninja", path=environment["PATH"]):
            options += ["-G", "Ninja"]
    words = ["--build", str(folder), "--target", "engine_benchmarks", "--parallel", str(jobs)]
    for command in (["cmake", "-S", str(ROOT), "-B", str(folder), *options], ["cmake", *words]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return folder / "engine_benchmarks"


def lines_of(command: list[str]) -> list[dict[str, Any]]:
    """The JSON lines that a program prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def machine(program: Path) -> dict[str, Any]:
    """What the figures hold for."""
    (found, *_) = lines_of([str(program), "--list"])
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "features": found["features"],
        "compiler": found["compiler"],
        "isas": found["isas"],
        "commit": commit.stdout.strip(),
    }


def title(row: dict[str, Any]) -> str:
    """A case in words."""
    shape = f"{row['outputs']} x {row['inputs']}"
    if row["rows"] > 1:
        return f"{shape}, {row['rows']} rows"
    if row["where"] == "memory":
        return f"{shape}, from memory"
    layer = row["outputs"] * row["inputs"] / 8
    if row["working_set_bytes"] > 1.5 * layer:
        return f"{shape}, {row['working_set_bytes'] / 1e6:.0f} MB of them"
    return f"{shape}, {'first-level cache' if row['where'].startswith('first') else 'the same again'}"


def share(row: dict[str, Any]) -> float | None:
    """Of the limit that the row is measured beside: reading for one row, multiplying for many."""
    found = row.get("share_of_reading") if row["rows"] == 1 else row.get("share_of_peak")
    return None if found is None else float(found)


def heading(found: dict[str, Any]) -> str:
    """The machine in a line, as every table has it."""
    return (
        f"{found['cpu']}, {found['cores']} cores, {', '.join(found['features'])}; {found['system']}; {found['compiler']}; "
        f"onebit at {found['commit']}"
    )


def table(results: dict[str, Any]) -> str:
    """All measurements as Markdown."""
    lines = [heading(results["machine"]), "", f"    {results['command']}", ""]
    for threads in results["threads"]:
        rows = [row for row in results["measurements"] if row["threads"] == threads]
        limits: dict[str, float] = {}
        for row in rows:
            if row["kind"] == "limit":
                limits[title(row)] = max(limits.get(title(row), 0), row["gb_per_s"])
        lines += [
            f"{threads} thread{'s' if threads > 1 else ''}. Reading at most:",
            "",
            "| weights | huge pages | with prefetch | small pages | with prefetch |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name in limits:
            speeds = {
                (row["pages"], row["prefetch"]): row["gb_per_s"]
                for row in rows
                if row["kind"] == "limit" and title(row) == name
            }
            cells = [f"{speeds[pages, prefetch]:.1f} GB/s" for pages in ("huge", "small") for prefetch in (False, True)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        peaks = [row for row in rows if row["kind"] == "peak"]
        if peaks:
            lines += ["", "Multiplying bytes in registers at most: "]
            lines[-1] += "; ".join(
                f"{row['isa']} ({row['instructions']}) {row['gmac_per_s']:.0f} GMAC/s" for row in peaks
            )
        lines += [
            "",
            "| weights | set | part | microseconds | GMAC/s | GB/s of bits | of the limit | median/fastest |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in rows:
            if row["kind"] != "dense":
                continue
            found = share(row)
            speed = f"{row['gb_per_s']:.1f}" if "gb_per_s" in row else ""
            lines.append(
                f"| {title(row)} | {row['isa']} | {row['part']} | {row['microseconds']:.1f} | {row['gmac_per_s']:.1f} | {speed} | "
                f"{'' if found is None else f'{100 * found:.0f} %'} | {row['spread']:.2f} |"
            )
        lines.append("")
    shares = {row["huge_pages"] for row in results["measurements"] if row["kind"] == "dense" and row["part"] == "layer"}
    if shares:
        lines.append(f"Share of the layers' weights in huge pages: {min(shares):.2f} to {max(shares):.2f}.")
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars: the share of the limit, a panel for each number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in results["measurements"] if row["kind"] == "dense" and share(row) is not None]
    rows = [row for row in rows if row["isa"] != "scalar"]
    cases = list(dict.fromkeys(title(row) for row in rows))
    bars = list(dict.fromkeys((row["isa"], row["part"] == "layer") for row in rows))
    figure, panels = plt.subplots(
        1,
        len(results["threads"]),
        figsize=(5.2 * len(results["threads"]) + 1.5, 0.8 * len(cases) + 2.2),
        sharey=True,
        squeeze=False,
    )
    height = 0.8 / len(bars)
    for panel, threads in zip(panels[0], results["threads"], strict=True):
        for number, (isa, layer) in enumerate(bars):
            found = {
                title(row): row
                for row in rows
                if row["threads"] == threads and row["isa"] == isa and (row["part"] == "layer") == layer
            }
            places = [
                index + (number - (len(bars) - 1) / 2) * height for index, name in enumerate(cases) if name in found
            ]
            shares = [100 * (share(found[name]) or 0) for name in cases if name in found]
            colour = COLOURS.get(isa, ("tab:purple", "plum"))[0 if layer else 1]
            panel.barh(
                places, shares, height * 0.92, color=colour, label=f"{isa}, {'layer' if layer else 'product alone'}"
            )
            for place, value, name in zip(places, shares, [name for name in cases if name in found], strict=True):
                panel.text(
                    value + 1,
                    place,
                    f"{value:.0f} %, {found[name]['gmac_per_s']:.0f} GMAC/s",
                    va="center",
                    fontsize=7,
                    bbox={"color": "white", "pad": 0.5},
                )
        panel.axvline(100, color="black", linewidth=0.8)
        panel.set_xlim(0, max(125, panel.get_xlim()[1] + 35))
        panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}", fontsize=10)
        panel.set_xlabel("% of the limit measured in the same run")
        panel.set_yticks(range(len(cases)), cases)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylim(len(cases) - 0.5, -0.5)
    figure.suptitle(
        f"Dense layers of bits (outputs x inputs) on {results['machine']['cpu']}:\n"
        "one row against reading the bits, many rows against multiplying bytes in registers",
        fontsize=11,
    )
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(bars), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=120)


def collected(program: Path, isa: str, kernel: str, times: int) -> int | None:
    """Instructions of a whole process as callgrind counts them; None where it does not know the instructions."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program)]
    command += ["--isa", isa, "--work", kernel, "--times", str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    return int(found[1]) if done.returncode == 0 and found else None


def stepped(program: Path, isa: str, kernel: str, times: int) -> int | None:
    """The same, counted by single steps."""
    command = [str(program), "--isa", isa, "--work", kernel, "--times", str(times), "--single-steps"]
    count = int(lines_of(command)[0]["instructions"])
    return None if count < 0 else count


def count_instructions(program: Path, isas: list[str]) -> list[dict[str, Any]]:
    """Instructions per multiply-accumulate of each kernel: the difference between three calls and one."""
    kernels = [row["kernel"] for row in lines_of([str(program), "--list"]) if row["kind"] == "kernel"]
    has_valgrind = shutil.which("valgrind") is not None
    rows = []
    for isa in isas:
        for kernel in kernels:
            for method, count in (("callgrind", collected), ("single steps", stepped)):
                if count is collected and not has_valgrind:
                    continue
                one = count(program, isa, kernel, 1)
                three = None if one is None else count(program, isa, kernel, 3)
                if one is None or three is None:
                    continue
                (work,) = lines_of([str(program), "--isa", isa, "--work", kernel, "--times", "0"])
                instructions = (three - one) // 2
                rows.append(
                    {
                        "isa": isa,
                        "kernel": kernel,
                        "size": work["size"],
                        "method": method,
                        "instructions": instructions,
                        "products": work["products"],
                        "per_product": instructions / work["products"],
                    }
                )
                print(f"{isa:<12} {kernel:<14} {rows[-1]['per_product']:.5f} ({method})", flush=True)
                break
            else:
                print(f"{isa:<12} {kernel:<14} not counted: neither callgrind nor single steps work here", flush=True)
    return rows


def instruction_table(results: dict[str, Any]) -> str:
    """Instructions per multiply-accumulate as Markdown."""
    rows = results["instructions"]
    isas = list(dict.fromkeys(row["isa"] for row in rows))
    lines = [heading(results["machine"]), "", f"    {results['command']}", ""]
    lines += [f"| kernel | work | {' | '.join(isas)} |", f"| --- | --- |{' ---: |' * len(isas)}"]
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        cells = {row["isa"]: f"{row['per_product']:.5f}" for row in rows if row["kernel"] == kernel}
        size = next(row["size"] for row in rows if row["kernel"] == kernel)
        lines.append(f"| {kernel} | {size} | {' | '.join(cells.get(isa, '') for isa in isas)} |")
    methods = {isa: sorted({row["method"] for row in rows if row["isa"] == isa}) for isa in isas}
    lines += [
        "",
        "Counted by: " + "; ".join(f"{isa} {' and '.join(used)}" for isa, used in methods.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def tile_table(results: dict[str, Any]) -> str:
    """The parts of a layer by tiles as Markdown."""
    lines = [heading(results["machine"]), "", f"    {results['command']}", "", "4096 x 4096, 256 rows.", ""]
    lines += [
        "| threads | part | microseconds | GB/s | GMAC/s | of the peak |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in results["measurements"]:
        part = row["part"]
        if "chunk_steps" in row:
            past = " past the first-level cache" if row["stream_levels"] else ""
            part += f": {64 * row['chunk_steps']} inputs a chunk, levels{past}, {row['most_rows']} rows a block"
        found = f"{100 * row['share_of_peak']:.0f} %" if "share_of_peak" in row else ""
        lines.append(
            f"| {row['threads']} | {part} | {row['microseconds']:.1f} | {row.get('gb_per_s', '')} | {row.get('gmac_per_s', '')} | {found} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--isa", nargs="+", help="default all that this CPU has")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--build", type=Path, help="a build folder, kept; default a temporary one")
    parser.add_argument("--jobs", type=int, default=1, help="compilers at once")
    parser.add_argument("--out", type=Path, default=Path("runs/kernels"))
    parser.add_argument("--tiles", action="store_true", help="measure the parts of a layer by tiles")
    parser.add_argument("--callgrind", action="store_true", help="count instructions instead of measuring time")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        program = build(arguments.build or Path(folder), arguments.jobs)
        command = "python benchmarks/kernels.py"
        results: dict[str, Any] = {"machine": machine(program)}
        isas = arguments.isa or results["machine"]["isas"]
        if arguments.callgrind:
            results |= {"command": command + " --callgrind", "instructions": count_instructions(program, isas)}
            name, text = "instructions", instruction_table(results)
        elif arguments.tiles:
            words = ["--tiles", "--threads", ",".join(map(str, arguments.threads)), "--seconds", str(arguments.seconds)]
            rows = [row for row in lines_of([str(program), *words]) if row["kind"] == "tiles"]
            results |= {
                "command": f"{command} --tiles --threads {' '.join(map(str, arguments.threads))}",
                "measurements": rows,
            }
            name, text = "tiles", tile_table(results)
        else:
            threads = list(dict.fromkeys(arguments.threads))
            words = ["--threads", ",".join(map(str, threads)), "--seconds", str(arguments.seconds)]
            rows = lines_of([str(program), *words, "--isa", ",".join(isas)])
            results |= {
                "command": f"{command} --threads {' '.join(map(str, threads))} --seconds {arguments.seconds:g}",
                "threads": threads,
                "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
                "measurements": [row for row in rows if row["kind"] != "machine"],
            }
            name, text = "kernels", table(results)
    (arguments.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / f"{name}.md").write_text(text)
    if name == "kernels":
        draw(results, arguments.out / "kernels.png")
    print(text)


if __name__ == "__main__":
    main()
