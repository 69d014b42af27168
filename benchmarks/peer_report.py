"""The results of benchmarks/peers.py as a Markdown table and as a picture."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OURS = "onebit int8"
TITLE_INCHES = 0.6
COLOURS = {
    "onebit": "#c0392b",
    "PyTorch": "#e59866",
    "ONNX Runtime": "#5d6d7e",
    "OpenVINO": "#5499c7",
    "llama.cpp": "#52be80",
}


def name_of(row: dict[str, Any]) -> str:
    """A competitor's name in tables and pictures."""
    return f"{row['engine']} {row['variant']}"


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _parts(results: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The jobs of the workloads, in the order in which they were measured."""
    return list(dict.fromkeys((row["workload"], row["job"]) for row in results))


def _by_name(results: list[dict[str, Any]], workload: str, job: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Of one job: each competitor's rows by threads."""
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for row in results:
        if (row["workload"], row["job"]) == (workload, job):
            rows.setdefault(name_of(row), {})[row["threads"]] = row
    return rows


def _absent(run: dict[str, Any], workload: str) -> dict[str, list[int]]:
    """Of one workload: who is absent, at which numbers of threads."""
    names: dict[str, list[int]] = {}
    for row in run["absent"]:
        if row["workload"] == workload:
            names.setdefault(name_of(row), []).append(row["threads"])
    return names


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def markdown(run: dict[str, Any]) -> str:
    """The whole run: what it ran on, a table for each job, what multiplied how much, and who is absent."""
    results, machine = run["results"], run["machine"]
    threads = sorted({row["threads"] for row in results})
    lines = [
        "# Whole models side by side",
        "",
        f"- processor: {machine['cpu']}, {machine['processors']} processors ({' '.join(machine['features'])})",
        f"- system: {machine['system']}, Python {machine['python']}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in run['versions'].items())}",
        f"- command: `{run['command']}`",
        f"- time: {run['started']}; load of the machine at the start {machine['load'][0]:.2f}",
        "",
        f'Medians of interleaved runs. *x* is the time over that of {OURS}: "2.6" means that {OURS} is 2.6 times as fast. *ps/MAC* is the '
        "time of a multiply-accumulate.",
        "",
    ]
    for workload, job in _parts(results):
        rows = _by_name(results, workload, job)
        lines += [f"## {workload}, {job}", ""]
        lines.append("| engine | " + " | ".join(f"{_threads(n)}, ms | x | ps/MAC" for n in threads) + " |")
        lines.append("| --- |" + " ---: | ---: | ---: |" * len(threads))
        missing = _absent(run, workload)
        for name in dict.fromkeys((*rows, *missing)):
            cells = []
            for n in threads:
                found, ours = rows.get(name, {}).get(n), rows.get(OURS, {}).get(n)
                if found is None:
                    cells += ["absent" if n in missing.get(name, ()) else "not measured", "", ""]
                    continue
                cells.append(_milliseconds(found["ms"]))
                cells.append(f"{found['ms'] / ours['ms']:.2f}" if ours else "")
                cells.append(f"{found['ps_per_multiply_accumulate']:.2f}")
            shown = f"**{name}**" if name == OURS else name
            lines.append(f"| {shown} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += [
        "## Multiply-accumulates",
        "",
        "| workload | job | model | multiply-accumulates |",
        "| --- | --- | --- | ---: |",
    ]
    for workload, models in run["multiply_accumulates"].items():
        for model, jobs in models.items():
            lines += [f"| {workload} | {job} | {model} | {count:,.0f} |" for job, count in jobs.items()]
    lines += ["", "## Absent", ""]
    lines += [
        f"- {name_of(row)}, {row['workload']}, {_threads(row['threads'])}: {row['reason']}" for row in run["absent"]
    ] or ["None."]
    lines += ["", "## How they ran", ""]
    for about in dict.fromkeys(run["about"].values()):
        names = [name for name, said in run["about"].items() if said == about]
        lines.append(f"- {', '.join(names)}: {about}")
    return "\n".join(lines) + "\n"


def picture(run: dict[str, Any]) -> bytes:
    """A PNG file: bars of milliseconds, a panel for each job, the fastest at one thread on top."""
    results = run["results"]
    parts, threads = _parts(results), sorted({row["threads"] for row in results})
    columns = min(2, len(parts))
    lines = -(-len(parts) // columns)
    most = max(len(_by_name(results, *part)) for part in parts)
    height_inches = (0.22 * len(threads) * most + 0.9) * lines + TITLE_INCHES
    figure, axes = plt.subplots(lines, columns, figsize=(8 * columns, height_inches), squeeze=False)
    for axis in axes.flat[len(parts) :]:
        axis.set_visible(False)
    models = run["multiply_accumulates"]
    for axis, (workload, job) in zip(axes.flat, parts, strict=False):
        rows = _by_name(results, workload, job)
        names = sorted(rows, key=lambda name: rows[name][min(rows[name])]["ms"], reverse=True)
        height = 0.8 / len(threads)
        longest = max(row["ms"] for of_name in rows.values() for row in of_name.values())
        for place, name in enumerate(names):
            for index, n in enumerate(threads):
                if n not in rows[name]:
                    continue
                row = rows[name][n]
                y = place + (len(threads) / 2 - index - 0.5) * height
                axis.barh(y, row["ms"], height * 0.92, color=COLOURS[row["engine"]], alpha=1 if index == 0 else 0.6)
                label = f" {_milliseconds(row['ms'])} ms"
                if len(models[workload]) > 1:
                    label += f", {row['ps_per_multiply_accumulate']:.1f} ps/MAC"
                axis.text(row["ms"], y, label, va="center", fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=9)
        for label in axis.get_yticklabels():
            label.set_fontweight("bold" if label.get_text().startswith("onebit") else "normal")
        # Room for the longest bar's label.
        axis.set_xlim(0, longest * (1.5 if len(models[workload]) > 1 else 1.25))
        axis.set_title(f"{workload}, {job}", fontsize=11, loc="left")
        missing = ", ".join(_absent(run, workload))
        axis.set_xlabel(f"ms; absent: {missing}" if missing else "ms", fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    shades = ", ".join(f"{'full' if index == 0 else 'pale'}: {_threads(n)}" for index, n in enumerate(threads))
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in ("onebit", "torch", "onnxruntime"))
    versions += f", openvino {run['versions']['openvino']}, llama-cpp-python {run['versions']['llama-cpp-python']}"
    title = f"{run['machine']['cpu']}; {shades}; less is better\n{versions}"
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height_inches, va="top")
    figure.tight_layout(rect=(0, 0, 1, 1 - TITLE_INCHES / height_inches))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    plt.close(figure)
    return content.getvalue()
