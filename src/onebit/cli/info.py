"""`onebit info`: what is in a packed file, and what this machine can run."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from onebit.pretrained import find
from onebit.printable import printable

EXAMPLES = """examples:
  onebit info pets.onebit
  onebit info pets.onebit --json
  onebit info pets.onebit --engine     how the engine runs it: kernels, layouts, and where its activations lie
  onebit info --engine                 the instruction sets of the engine on this machine
  ONEBIT_ISA=avx2 onebit info --engine
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "info",
        help="what is in a packed file, and what this machine can run",
        description="What is in a packed file: its task, its steps, its bytes; and the engine's instruction sets.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        type=find,
        nargs="?",
        metavar="FILE",
        help="a .onebit file, or the name of one that comes with onebit: books",
    )
    parser.add_argument(
        "--engine",
        action="store_true",
        help="the engine's instruction sets, and which one runs here; with FILE also how it is run",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run, usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    if args.file is None and not args.engine:
        args.usage_error("give a FILE, or --engine, or both")
    result: dict[str, Any] = {}
    if args.file is not None:
        result |= describe_file(args.file)
    if args.engine:
        result["engine"] = describe_engine()
        result["calibration"] = describe_calibration(result["engine"])
        if args.file is not None:
            result["plan"] = describe_plan(args.file)
    if args.json:
        print(json.dumps(result))
        return 0
    if args.file is not None:
        _print_file(result)
    for isa in result.get("engine", []):
        state = "runs here" if isa["used"] else "supported" if isa["supported"] else "not supported by this CPU"
        print(f"{isa['name']:<8} {state:<26} {isa['text']} (needs {', '.join(isa['needs']) or 'nothing'})")
    if "calibration" in result:
        _print_calibration(result["calibration"])
    if "plan" in result:
        _print_plan(result["plan"])
    return 0


def describe_file(path: Path) -> dict[str, Any]:
    """Everything that `info` tells of a file, as plain values."""
    from onebit.fileformat import FORMAT_VERSION, load_model
    from onebit.ops import OPS

    model = load_model(path)
    bits = sum(
        OPS[step.op].bits(step.attributes, step.tensors, model.shapes[step.inputs[0]]) for step in model.program.steps
    )
    floats = sum(tensor.size for tensor in model.tensors.values() if tensor.dtype.kind == "f")
    return {
        "file": str(path),
        "format_version": FORMAT_VERSION,
        "task": _short(model.task),
        "input_shape": list(model.program.input_shape),
        "output_shape": list(model.shapes[model.program.output]),
        "steps": [step.op for step in model.program.steps],
        "bit_parameters": bits,
        "float_values": floats,
        "tensor_bytes": sum(tensor.nbytes for tensor in model.tensors.values()),
        "file_bytes": path.stat().st_size,
    }


def _short(task: dict[str, Any]) -> dict[str, Any]:
    """A task without its vocabulary, which is longer than all else."""
    if "vocabulary" not in task:
        return task
    tokens = str(task["vocabulary"]).count("\n") + 1
    return {key: value for key, value in task.items() if key != "vocabulary"} | {"vocabulary_size": tokens}


def describe_engine() -> list[dict[str, Any]]:
    """The engine's instruction sets, the best first, and which one would run."""
    from onebit._engine import Engine, isas
    from onebit.errors import OnebitError
    from onebit.program import Program, Step

    try:
        used = Engine(Program("x", (1,), (Step("relu", ("x",), "y"),), "y").to_json(), {}, "float32", 1).isa
    except ValueError as error:
        raise OnebitError(str(error)) from None
    return [isa | {"used": isa["name"] == used} for isa in reversed(isas())]


def describe_calibration(isas: list[dict[str, Any]]) -> dict[str, Any]:
    """Which of several ways to the same results the set that runs here takes, and where that is known from."""
    from onebit._engine import calibration
    from onebit.errors import OnebitError

    try:
        return calibration(next(isa["name"] for isa in isas if isa["used"]))
    except ValueError as error:
        raise OnebitError(str(error)) from None


def describe_plan(path: Path) -> dict[str, Any]:
    """How the engine runs a file: its steps with their kernels and memory, and what they take in all."""
    from onebit.runtime import load

    session = load(path, threads=1)
    steps = session.plan()
    return {
        "precision": session.precision,
        "steps": steps,
        "arena_bytes": session.arena_bytes,
        "weight_bytes": sum(step["weight_bytes"] for step in steps),
    }


def _print_calibration(found: dict[str, Any]) -> None:
    rows, gain = found["most_rows"], found["least_image_gain"]
    dense = (
        "any number of rows" if rows is None else f"up to {rows:,} rows, more by panels of bytes" if rows else "no row"
    )
    images = "by panels of bytes" if gain is None else f"by look-ups from a gain of {gain} on"
    print(f"ways     {found['source']}{printable(': ' + found['file']) if found['file'] else ''}")
    print(f"         dense layers look bits up for {dense}; convolutions {images};")
    print(f"         threads divide layers from {found['least_divided']:,} products on")


def _print_plan(plan: dict[str, Any]) -> None:
    print(f"  plan        {plan['precision']}, {len(plan['steps'])} steps as they run; activations lie in one block")
    rows = [("offset", "bytes", "shape", "weights", "step", "kernel")]
    for step in plan["steps"]:
        shape = " x ".join(map(str, step["shape"]))
        weights = f"{step['weight_bytes']:,}" if step["weight_bytes"] else ""
        rows.append((f"{step['offset']:,}", f"{step['bytes']:,}", shape, weights, step["step"], step["kernel"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[:4], widths, strict=False))
        print(f"    {numbers}  {row[4].ljust(widths[4])}  {row[5]}".rstrip())
    print(f"  block of activations {plan['arena_bytes']:,} bytes, weights {plan['weight_bytes']:,} bytes")


def _print_file(result: dict[str, Any]) -> None:
    task = result["task"]
    labels = task.get("labels", [])
    shown = ", ".join(map(printable, labels[:8])) + (", ..." if len(labels) > 8 else "")
    counts = Counter(result["steps"])
    print(f"{printable(result['file'])}: {printable(task['kind'])}, format {result['format_version']}")
    tokens = "vocabulary_size" in task
    print(f"  input       {' x '.join(map(str, result['input_shape']))}" + (" tokens" if tokens else ""))
    if tokens:
        print(f"  tokenizer   WordPiece over {printable(task['alphabet'])}, {task['vocabulary_size']:,} tokens")
    print(f"  output      {' x '.join(map(str, result['output_shape']))}" + (f": {shown}" if labels else ""))
    print(f"  steps       {len(result['steps'])}: " + ", ".join(f"{count} {op}" for op, count in counts.most_common()))
    print(f"  parameters  {result['bit_parameters']:,} of one bit; {result['float_values']:,} values of float32")
    print(f"  bytes       {result['tensor_bytes']:,} of tensors, {result['file_bytes']:,} in all")
