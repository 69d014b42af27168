"""Prints the table of docs/microcontrollers.md from golden.json: python tests/mcu/table.py."""

from __future__ import annotations

import json
from pathlib import Path

CORES = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32")


def table() -> str:
    """The rows, network by network, a line for each core."""
    golden = json.loads((Path(__file__).parent / "golden.json").read_text())
    lines = [
        "| network | core | flash | RAM | instructions | instructions a product |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in golden["cortex-m4"]["networks"]:
        for core in CORES:
            row = golden[core]["networks"].get(name)
            if row is not None:
                each = row["instructions"] / row["products"]
                lines.append(
                    f"| {name} | {core} | {row['flash']:,} | {row['ram']:,} | {row['instructions']:,} | {each:.2f} |"
                )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
