"""`onebit train`: train a network from a recipe, into a run folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from onebit.cli import arguments
from onebit.cli.recipe_keys import HelpWithKeys, parse_keys
from onebit.printable import printable

EXAMPLES = """examples:
  onebit train digits                                      the small handwritten digits that come with scikit-learn
  onebit train images --data my_pictures                   your own images: my_pictures/CLASS/*.jpg (or train/CLASS and test/CLASS)
  onebit train images --data my_pictures --binary false    the float twin, for comparison
  onebit train cifar10 --epochs 5 --widths 32,64,128 --out runs/short
  onebit train cifar10 --out runs/short --epochs 5 --widths 32,64,128 --resume
  onebit train medium --data books --devices 8 --strategy fsdp --checkpoint-steps 500

Every key of a recipe is a flag with one value, as in --epochs 3 or --compile true:
"""


def add_parser(subparsers: Any) -> None:
    parser = arguments.command(
        subparsers,
        "train",
        run,
        EXAMPLES,
        help="train a 1-bit network, or its float twin, from a recipe",
        description="Train a 1-bit network, or its float twin, from a recipe into a run folder.",
        add_help=False,
    )
    text = "show this help; 'RECIPE --help' has the values of that recipe"
    parser.add_argument("-h", "--help", action=HelpWithKeys, help=text)
    parser.add_argument("recipe", metavar="RECIPE", help="the name of a recipe that comes with onebit, or a YAML file")
    parser.add_argument("--out", type=arguments.path, metavar="DIR", help="the run folder (default runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in the run folder")
    text = "also write a checkpoint every N steps (default after each epoch)"
    parser.add_argument("--checkpoint-steps", type=int, metavar="N", help=text)
    parser.add_argument("--show", action="store_true", help="print the recipe with its overrides and do not train")
    parser.add_argument("--quiet", action="store_true", help="do not show progress")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="GPUs, or processes on a CPU (default 1)")
    text = "machines (default 1); start the command on each, by torchrun, SLURM or by hand"
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help=text)
    text = "ddp: each device holds the whole network (default); fsdp: each holds a part"
    parser.add_argument("--strategy", choices=("auto", "ddp", "fsdp"), default="auto", help=text)
    parser.set_defaults(takes_recipe_keys=True)


def run(args: argparse.Namespace) -> int:
    from onebit.training import load_recipe, train
    from onebit.training.layout import is_first

    recipe = load_recipe(args.recipe).override(parse_keys(args.recipe_keys), "train")
    if args.show:
        print(recipe.to_yaml(), end="")
        return 0
    out = args.out or Path("runs") / Path(args.recipe).stem
    try:
        finished = train(
            recipe, out, args.resume, not args.quiet, args.checkpoint_steps, args.devices, args.nodes, args.strategy
        )
    except KeyboardInterrupt:
        layout = [("--devices", args.devices), ("--nodes", args.nodes), ("--checkpoint-steps", args.checkpoint_steps)]
        flags = [word for flag, value in layout if value not in (1, None) for word in (flag, str(value))]
        flags += ["--strategy", args.strategy] if args.strategy != "auto" else []
        words = shlex.join(["onebit", "train", args.recipe, *args.recipe_keys, *flags, "--out", str(out), "--resume"])
        print(f"\nonebit: interrupted; continue with: {printable(words)}", file=sys.stderr)
        return 130
    if not is_first():
        return 0
    print(finished)
    print(f"next: onebit pack {printable(out)}")
    return 0
