"""`onebit evaluate`: accuracy and loss of a run folder or of a packed file."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  onebit evaluate runs/images                                      the trained network in PyTorch, on its own test images
  onebit evaluate runs/images.onebit --data my_pictures            the packed file in the engine
  onebit evaluate runs/images.onebit --data my_pictures --precision float32
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="accuracy and loss of a trained network or a packed file",
        description="Accuracy and loss on test images, of a run folder (in PyTorch) or of a packed file (in the engine).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="RUN_OR_FILE")
    parser.add_argument(
        "--data", help="a folder of images or the name of a data set; default what the run was trained on"
    )
    parser.add_argument(
        "--precision", choices=("int8", "float32"), default="int8", help="of the engine (default %(default)s)"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    result = _evaluate_run(args) if args.model.is_dir() else _evaluate_file(args)
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{args.model} ({result['numerics']}): accuracy {100 * result['accuracy']:.2f} %, loss {result['loss']:.4f} "
            f"on {result['images']} test images, {result['seconds']:.1f} s"
        )
    return 0


def _evaluate_run(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from onebit.data import load_test_images
    from onebit.training import evaluate, load_run

    if args.threads:
        torch.set_num_threads(args.threads)
    trained = load_run(args.model)
    images = load_test_images(args.data or trained.recipe.data, trained.task, trained.recipe.seed)
    start = time.perf_counter()
    result = evaluate(trained.model, images, trained.task)
    return {"numerics": "PyTorch float32", **result, "seconds": time.perf_counter() - start}


def _evaluate_file(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    import onebit
    from onebit.data import load_test_images
    from onebit.errors import OnebitError
    from onebit.runtime.session import softmax

    session = onebit.load(args.model, args.precision, args.threads)
    if session.task is None:
        raise OnebitError(f"[{args.model}] is no classifier of images")
    if args.data is None:
        raise OnebitError("[evaluate] a packed file does not know where its images lie: give --data")
    images = load_test_images(args.data, session.task)
    start = time.perf_counter()
    right, loss = 0, 0.0
    for first in range(0, len(images), 64):
        labels = images.labels[first : first + 64]
        logits = session(np.ascontiguousarray(images.pixels[first : first + 64]))
        right += int((logits.argmax(1) == labels).sum())
        loss -= float(np.log(np.maximum(softmax(logits)[np.arange(len(labels)), labels], 1e-30)).sum())
    seconds = time.perf_counter() - start
    count = len(images)
    return {
        "numerics": f"engine {args.precision}",
        "accuracy": right / count,
        "loss": loss / count,
        "images": count,
        "seconds": seconds,
    }
