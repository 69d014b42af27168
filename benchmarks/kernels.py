"""Compare the engine's kernels with the machine's limits of reading and multiplying, in one run.

    python benchmarks/kernels.py [--threads 1 2] [--isa avx2 avx512] [--seconds 0.5] [--build FOLDER] [--out FOLDER]
    python benchmarks/kernels.py --tiles [--threads 1 2] [--seconds 0.5] [--build FOLDER] [--out FOLDER]
    python benchmarks/kernels.py --callgrind [--isa avx2] [--work TEXT] [--build FOLDER] [--out FOLDER]
    python benchmarks/kernels.py --arm [--isa neon] [--work TEXT] [--build FOLDER] [--out FOLDER]

Builds `engine_benchmarks` with CMake and runs it. Writes OUT/kernels.json, OUT/kernels.md and OUT/kernels.png. --tiles measures the parts of a layer
of 256 rows with AMX's tiles, and the layer with several blockings, and writes OUT/tiles.json and OUT/tiles.md. All but the layer need only AVX-512.
--callgrind counts the instructions of each kernel instead, and writes OUT/instructions.json and OUT/instructions.md. --arm does so for 64-bit Arm,
with Debian's g++-aarch64-linux-gnu and qemu-user. docs/kernels.md explains the results.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from instruction_counts import count_instructions, instruction_table
from kernel_program import Program, build, heading, machine

COMMAND = "python benchmarks/kernels.py"
# Bars of an instruction set: the whole layer, and the product alone.
COLOURS = {
    "scalar": ("tab:gray", "silver"),
    "avx2": ("tab:orange", "#ffd0a0"),
    "avx512": ("tab:blue", "#a8cbe8"),
    "amx": ("tab:green", "#b0dcb0"),
    "neon": ("tab:orange", "#ffd0a0"),
    "neon_dotprod": ("tab:blue", "#a8cbe8"),
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
    """The share of the limit of a row: reading for one row, multiplying for many."""
    found = row.get("share_of_reading") if row["rows"] == 1 else row.get("share_of_peak")
    return None if found is None else float(found)


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
    """Bars of the share of the limit, one panel per number of threads."""
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


def measure_tiles(program: Program, threads: list[int], seconds: float) -> dict[str, Any]:
    """The parts of a layer by tiles."""
    rows = program.lines("--tiles", "--threads", ",".join(map(str, threads)), "--seconds", str(seconds))
    return {
        "command": f"{COMMAND} --tiles --threads {' '.join(map(str, threads))}",
        "measurements": [row for row in rows if row["kind"] == "tiles"],
    }


def measure_kernels(program: Program, threads: list[int], isas: list[str], seconds: float) -> dict[str, Any]:
    """All cases of layers and products, and the machine's limits."""
    words = ["--threads", ",".join(map(str, threads)), "--seconds", str(seconds), "--isa", ",".join(isas)]
    return {
        "command": f"{COMMAND} --threads {' '.join(map(str, threads))} --seconds {seconds:g}",
        "threads": threads,
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "measurements": [row for row in program.lines(*words) if row["kind"] != "machine"],
    }


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
    parser.add_argument("--arm", action="store_true", help="count those of 64-bit Arm, cross-compiled and emulated")
    parser.add_argument("--work", default="", help="count only kernels and layers whose name contains this")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        program = build(arguments.build or Path(folder), arguments.jobs, arguments.arm)
        results: dict[str, Any] = {"machine": machine(program)}
        isas = arguments.isa or results["machine"]["isas"]
        threads = list(dict.fromkeys(arguments.threads))
        if arguments.callgrind or arguments.arm:
            counts = count_instructions(program, isas, arguments.work, arguments.build or Path(folder))
            results |= {"command": f"{COMMAND} --{'arm' if arguments.arm else 'callgrind'}", "instructions": counts}
            name, text = "instructions", instruction_table(results)
        elif arguments.tiles:
            results |= measure_tiles(program, threads, arguments.seconds)
            name, text = "tiles", tile_table(results)
        else:
            results |= measure_kernels(program, threads, isas, arguments.seconds)
            name, text = "kernels", table(results)
    (arguments.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / f"{name}.md").write_text(text)
    if name == "kernels":
        draw(results, arguments.out / "kernels.png")
    print(text)


if __name__ == "__main__":
    main()
