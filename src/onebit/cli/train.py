"""`onebit train`: a recipe to a run folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from onebit.paths import expand
from onebit.printable import printable

EXAMPLES = """examples:
  onebit train digits                                      the small handwritten digits that come with scikit-learn
  onebit train images --data my_pictures                   own images: my_pictures/CLASS/*.jpg (or train/ and test/ that hold such folders)
  onebit train images --data my_pictures --binary false    the float twin, to compare with
  onebit train cifar10 --epochs 5 --widths 32,64,128 --out runs/short
  onebit train cifar10 --out runs/short --epochs 5 --widths 32,64,128 --resume
  onebit train small --data books --devices 8 --strategy fsdp --checkpoint-steps 500

Every key of a recipe is a flag; 'onebit train RECIPE --show' prints them all.
"""


# Keys whose values are paths: `--data 2024` means a folder.
PATHS = ("data", "validation_data", "teacher", "warm_start")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a 1-bit network, or its float twin, from a recipe",
        description="Train a 1-bit network, or its float twin, from a recipe into a run folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="the name of a recipe that comes with onebit, or a YAML file")
    parser.add_argument("--out", type=expand, metavar="DIR", help="the run folder (default runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on after the last checkpoint in the run folder")
    parser.add_argument(
        "--checkpoint-steps",
        type=int,
        metavar="N",
        help="a checkpoint after every N steps too (default: after each epoch)",
    )
    parser.add_argument("--show", action="store_true", help="print the recipe with its overrides, and train nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="GPUs, or processes on a CPU (default 1)")
    parser.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="machines; torchrun, SLURM or you start one each"
    )
    parser.add_argument(
        "--strategy",
        choices=("auto", "ddp", "fsdp"),
        default="auto",
        help="ddp: each device holds all (default); fsdp: a part",
    )
    parser.set_defaults(run=run, takes_recipe_keys=True)


def parse_keys(words: list[str], where: str = "train") -> dict[str, Any]:
    """Flags that are keys of a recipe, `--key value` or `--key=value`, to their values."""
    from onebit.errors import RecipeError, shown
    from onebit.training.recipe import parse_text

    values: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise RecipeError(f"[{where}] {shown(word)}: flags look like --epochs 5")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"[{where}] --{key[:80]} lacks its value, as in --{key} VALUE")
            text = rest.pop(0)
        name = key.replace("-", "_")
        values[name] = text if name in PATHS else parse_text(text)
    return values


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
        print(f"\nonebit: interrupted; go on with: {printable(words)}", file=sys.stderr)
        return 130
    if not is_first():
        return 0
    print(finished)
    print(f"next: onebit pack {printable(out)}")
    return 0
