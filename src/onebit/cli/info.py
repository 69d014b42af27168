"""`onebit info`: show what is in a packed file, and what this machine can run."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onebit.cli import arguments, colour

EXAMPLES = """examples:
  onebit info pets.onebit
  onebit info pets.onebit --json
  onebit info pets.onebit --engine     how the engine runs it: kernels, weight layouts, activation memory
  onebit info --engine                 the instruction sets of the engine on this machine
  ONEBIT_ISA=avx2 onebit info --engine
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "info",
        run,
        EXAMPLES,
        help="show what is in a packed file, and what this machine can run",
        description="Show a packed file's task, steps and bytes, and the engine's instruction sets.",
    )
    arguments.file(parser, nargs="?")
    parser.add_argument(
        "--engine",
        action="store_true",
        help="list the engine's instruction sets and the one used here; with FILE, also show how the engine runs it",
    )
    arguments.as_json(parser)
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    from onebit.engine_info import calibration, engine_plan, instruction_sets
    from onebit.file_info import info

    if args.file is None and not args.engine:
        args.usage_error("give a FILE, or --engine, or both")
    found = None if args.file is None else info(args.file)
    sets = instruction_sets() if args.engine else []
    ways = next((calibration(isa.name) for isa in sets if isa.used), None)
    plan = engine_plan(args.file) if args.engine and args.file is not None else None
    if args.json:
        values = {} if found is None else found.to_dict()
        values |= {"engine": [isa.to_dict() for isa in sets]} if args.engine else {}
        values |= {} if ways is None else {"calibration": ways.to_dict()}
        print(json.dumps(values if plan is None else values | {"plan": plan.to_dict()}))
        return 0
    for part in (found, *sets, ways, plan):
        if part is not None:
            colour.say(part)
    return 0
