"""`onebit verify`: does a packed file compute what was trained?"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

# The reference is plain NumPy: a few images take as long as thousands in the engine.
REFERENCE_IMAGES = 16

EXAMPLES = """examples:
  onebit verify runs/images.onebit runs/images
  onebit verify runs/images.onebit runs/images --limit 500 --json
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="compare a packed file with the network it was packed from",
        description=(
            "Run the same test images through PyTorch, the NumPy reference and the engine at both precisions, and report the largest difference "
            "and how often the answer differs. Exits 1 where the float32 engine is not PyTorch's equal."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .onebit file")
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run folder that it was packed from")
    parser.add_argument("--data", help="other images; default the run's own test images")
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="which network (default %(default)s)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N images only")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from onebit.data import load_test_images
    from onebit.errors import OnebitError
    from onebit.runtime.verify import FLOAT32_TOLERANCE
    from onebit.training import load_run

    trained = load_run(args.folder, args.checkpoint)
    if args.limit is not None and args.limit < 1:
        raise OnebitError(f"[verify] --limit {args.limit}: use 1 or more")
    images = load_test_images(args.data or trained.recipe.data, trained.task, trained.recipe.seed)
    pixels = images.pixels[: args.limit]
    rows = compare_all(args.file, trained, pixels, args.threads)
    float32 = next(row for row in rows if row["computed by"] == "engine float32")
    good = float32["relative"] <= FLOAT32_TOLERANCE
    if args.json:
        print(json.dumps({"file": str(args.file), "run": str(args.folder), "equal": good, "comparisons": rows}))
    else:
        print(f"{args.file} against {args.folder} in PyTorch float32:")
        for row in rows:
            print(
                f"  {row['computed by']:<16} largest relative difference {row['relative']:.1e}, "
                f"{row['changed']} of {row['images']} answers differ ({100 * row['changed'] / row['images']:.2f} %), {row['seconds']:.1f} s"
            )
        print(
            "the packed file computes what was trained"
            if good
            else f"NOT EQUAL: float32 may differ by {FLOAT32_TOLERANCE:.0e} at most"
        )
    return 0 if good else 1


def compare_all(file: Path, trained: Any, pixels: Any, threads: int | None) -> list[dict[str, Any]]:
    """Compare the reference and the engine with PyTorch on uint8 images (n, height, width, channels)."""
    import numpy as np
    import torch

    import onebit
    from onebit.errors import OnebitError
    from onebit.fileformat import load_model
    from onebit.runtime import reference
    from onebit.runtime.verify import compare
    from onebit.training.batches import scale_pixels

    def batches(compute: Any, count: int) -> Any:
        return np.concatenate(
            [compute(np.ascontiguousarray(pixels[i : min(i + 64, count)])) for i in range(0, count, 64)]
        )

    def pytorch(part: Any) -> Any:
        with torch.inference_mode():
            return trained.model(scale_pixels(part, trained.task)).float().numpy()

    packed = load_model(file)
    if packed.program.input_shape != pixels.shape[1:] or packed.task.get("labels") != list(trained.task.labels):
        raise OnebitError(
            f"[verify] {file} takes other images or has other labels than {trained.path}: it was packed from another run"
        )
    expected = batches(pytorch, len(pixels))
    few = min(REFERENCE_IMAGES, len(pixels))
    float32, int8 = (onebit.load(file, precision, threads) for precision in ("float32", "int8"))
    computations = {
        "NumPy float32": (few, lambda part: reference.run(packed.program, packed.tensors, part, "float32")),
        "NumPy int8": (few, lambda part: reference.run(packed.program, packed.tensors, part, "int8")),
        "engine float32": (len(pixels), float32),
        "engine int8": (len(pixels), int8),
    }
    rows = []
    for name, (count, compute) in computations.items():
        start = time.perf_counter()
        difference = compare(batches(compute, count), expected[:count])
        seconds = time.perf_counter() - start
        rows.append(
            {
                "computed by": name,
                "relative": difference.relative,
                "changed": difference.changed,
                "images": count,
                "seconds": seconds,
            }
        )
    return rows
