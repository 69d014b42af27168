"""`onebit verify`: does a packed file compute what was trained?"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from onebit.paths import expand
from onebit.pretrained import find
from onebit.printable import printable

# The reference is plain NumPy: a few images or tokens take as long as thousands in the engine.
REFERENCE_IMAGES = 16
REFERENCE_TEXTS = 1
# Texts of a whole context that are compared where no --limit is given.
TEXTS = 8

EXAMPLES = """examples:
  onebit verify runs/images.onebit runs/images
  onebit verify runs/images.onebit runs/images --limit 500 --json
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="compare a packed file with the network it was packed from",
        description=(
            "Run the same test images or texts through PyTorch, the NumPy reference and the engine at both precisions, and report the "
            "largest difference and how often the answer differs. Exits 1 where the float32 engine is not PyTorch's equal: apart by more than 1e-4 "
            "anywhere, or, where a network quantises its layers' inputs, in more than 2 %% of the outputs."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", type=find, metavar="FILE", help="a .onebit file, or the name of one that comes with onebit: books"
    )
    parser.add_argument("folder", type=expand, metavar="RUN", help="the run folder that it was packed from")
    parser.add_argument(
        "--data", help="other images or another text; default the run's own, which it was not trained on"
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="which network (default %(default)s)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use the first N images, or texts of a whole context, only"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from onebit.data import load_test_images
    from onebit.errors import OnebitError
    from onebit.fileformat import load_model
    from onebit.images import ImageTask
    from onebit.processors import cores
    from onebit.runtime.verify import FLOAT32_TOLERANCE, ROUNDED_SHARE
    from onebit.training import load_run
    from onebit.training.openmp import use_threads
    from onebit.training.sources import check_there

    use_threads(args.threads or cores())
    trained = load_run(args.folder, args.checkpoint)
    if args.limit is not None and args.limit < 1:
        raise OnebitError(f"[verify] --limit {args.limit}: use 1 or more")
    if isinstance(trained.task, ImageTask):
        if args.data is None:
            check_there(trained.recipe, trained.known, trained.path)
        images = load_test_images(args.data or trained.recipe.data, trained.task, trained.recipe.seed)
        rows = compare_all(args.file, trained, images.pixels[: args.limit], args.threads)
    else:
        rows = compare_texts(args.file, trained, load_texts(trained, args.data, args.limit or TEXTS), args.threads)
    rounded = any("input" in step.attributes for step in load_model(args.file).program.steps)
    float32 = [row for row in rows if row["computed by"].startswith("engine float32")]
    good = all(row["beyond"] <= (ROUNDED_SHARE * row["compared"] if rounded else 0) for row in float32)
    if args.json:
        print(json.dumps({"file": str(args.file), "run": str(args.folder), "equal": good, "comparisons": rows}))
    else:
        print(f"{printable(args.file)} against {printable(args.folder)} in PyTorch float32:")
        width = max(len(row["computed by"]) for row in rows)
        for row in rows:
            print(
                f"  {row['computed by']:<{width}} largest relative difference {row['relative']:.1e}, "
                f"{row['changed']} of {row['compared']} answers differ ({100 * row['changed'] / row['compared']:.2f} %), {row['seconds']:.1f} s"
            )
        print(
            "the packed file computes what was trained"
            if good
            else f"NOT EQUAL: float32 may differ by {FLOAT32_TOLERANCE:.0e} at most"
            + (f" in all but {ROUNDED_SHARE:.0%} of the outputs" if rounded else "")
        )
        beyond = sum(row["beyond"] for row in float32)
        if good and beyond:
            print(
                f"{beyond} outputs differ by more: a number between two levels of a layer's inputs was rounded to the other one"
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
    return _compare({name: (lambda c=c, n=n: batches(c, n)) for name, (n, c) in computations.items()}, expected)


def load_texts(trained: Any, data: str | None, count: int) -> Any:
    """The first texts of a whole context, int64 (count, context), that a run was not trained on."""
    import numpy as np

    from onebit.data.text import load_evaluation_text, load_validation_text
    from onebit.errors import DataError
    from onebit.training.sources import check_there

    recipe, context = trained.recipe, trained.model.context
    if data is None:
        check_there(recipe, trained.known, trained.path)
        text, _ = load_validation_text(
            recipe.data, trained.task, "document", recipe.validation_data, recipe.validation_share, recipe.seed
        )
    else:
        text, _ = load_evaluation_text(data, trained.task)
    count = min(count, len(text) // context)
    if not count:
        raise DataError(f"[{text.source}] holds {len(text)} tokens: needs a whole context of {context}")
    return np.asarray(text.tokens[: count * context], np.int64).reshape(count, context)


def compare_texts(file: Path, trained: Any, tokens: Any, threads: int | None) -> list[dict[str, Any]]:
    """Compare the reference and the engine, in one pass and token by token, with PyTorch on texts, int64 (n, context)."""
    import numpy as np
    import torch

    import onebit
    from onebit.errors import OnebitError
    from onebit.fileformat import load_model
    from onebit.runtime import reference
    from onebit.runtime.text import TextSession

    packed = load_model(file)
    if packed.task.get("vocabulary") != trained.task.to_json()["vocabulary"] or packed.program.input_shape != (
        trained.model.context,
    ):
        raise OnebitError(
            f"[verify] {file} has another vocabulary or context than {trained.path}: it was packed from another run"
        )
    with torch.inference_mode():
        expected = np.concatenate([trained.model(torch.from_numpy(text[None])).float().numpy()[0] for text in tokens])
    few = tokens[:REFERENCE_TEXTS]
    computations: dict[str, Any] = {}
    for precision in ("float32", "int8"):
        computations[f"NumPy {precision}"] = lambda p=precision: np.concatenate(
            list(reference.run(packed.program, packed.tensors, few, p))
        )
    for precision in ("float32", "int8"):
        session = onebit.load(file, precision, threads)  # type: ignore[arg-type]
        assert isinstance(session, TextSession)
        computations[f"engine {precision}"] = lambda s=session: np.concatenate([s.logits(text) for text in tokens])
        computations[f"engine {precision}, token by token"] = lambda s=session: np.concatenate(
            [s.logits(text, one_by_one=True) for text in tokens]
        )
    return _compare(computations, expected)


def _compare(computations: dict[str, Any], expected: Any) -> list[dict[str, Any]]:
    """What each computation gives against the first of the expected outputs, and how long it takes."""
    from onebit.runtime.verify import compare

    rows = []
    for name, compute in computations.items():
        start = time.perf_counter()
        made = compute()
        seconds = time.perf_counter() - start
        difference = compare(made, expected[: len(made)])
        rows.append(
            {
                "computed by": name,
                "relative": difference.relative,
                "changed": difference.changed,
                "compared": difference.compared,
                "beyond": difference.beyond,
                "seconds": seconds,
            }
        )
    return rows
