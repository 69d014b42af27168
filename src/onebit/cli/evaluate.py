"""`onebit evaluate`: accuracy and loss of a run folder or of a packed file; of a language model also perplexity and bits per byte."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from onebit.pretrained import find
from onebit.printable import one_line, printable

if TYPE_CHECKING:
    from pathlib import Path

    from onebit.data.record import DataRecord
    from onebit.data.tokens import TextSet
    from onebit.metrics import TextMetrics
    from onebit.runtime.text import TextSession

EXAMPLES = """examples:
  onebit evaluate runs/images                                      the trained network in PyTorch, on its own test images
  onebit evaluate runs/images.onebit --data my_pictures            the packed file in the engine
  onebit evaluate runs/images.onebit --data my_pictures --precision float32
  onebit evaluate runs/mini                                        a language model, on the text that was set aside
  onebit evaluate runs/mini.onebit --data other_books.txt          the packed file, on another text
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="accuracy and loss of a trained network or a packed file",
        description=(
            "Accuracy and loss on test images, or perplexity, accuracy and bits per byte on text, of a run folder (in PyTorch) or of a packed file "
            "(in the engine)."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=find, metavar="RUN_OR_FILE")
    parser.add_argument(
        "--data",
        help="a folder of images, a text file or folder, or the name of a data set; default what the run was trained on",
    )
    parser.add_argument(
        "--precision", choices=("int8", "float32"), default="int8", help="of the engine (default %(default)s)"
    )
    parser.add_argument(
        "--cache", choices=("bf16", "int8"), help="as what the engine keeps keys and values of text (default bf16)"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    result = _evaluate_run(args) if args.model.is_dir() else _evaluate_file(args)
    if args.json:
        print(json.dumps(result))
    elif "images" in result:
        print(
            f"{printable(args.model)} ({result['numerics']}): accuracy {100 * result['accuracy']:.2f} %, loss {result['loss']:.4f} "
            f"on {result['images']} {'test images' if result['part'] == 'test' else 'images'}, {result['seconds']:.1f} s"
        )
    else:
        print(
            f"{printable(args.model)} ({result['numerics']}): {result['bits_per_byte']:.4f} bits per byte, perplexity {result['perplexity']:.3f}, "
            f"accuracy {100 * result['accuracy']:.2f} %, loss {result['loss']:.4f} on {result['tokens']:,} tokens of {printable(result['data'])}, "
            f"{result['seconds']:.1f} s"
        )
        print(f"  tokenizer: {result['tokenizer']}; context: {result['context']} tokens; padding is not counted")
        if "padded_perplexity_not_comparable" in result:
            print(
                f"  counting padding, for comparison with the paper's tables only: perplexity {result['padded_perplexity_not_comparable']:.3f}, "
                f"accuracy {100 * result['padded_accuracy_not_comparable']:.2f} %"
            )
    return 0


def _evaluate_run(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from onebit.data import load_test_images
    from onebit.data.held_out import ImagesToMeasure, images_to_measure
    from onebit.errors import OnebitError
    from onebit.images import ImageTask
    from onebit.training import evaluate, load_run
    from onebit.training.openmp import use_threads
    from onebit.training.sources import check_own_data

    if args.cache is not None:
        raise OnebitError(
            "[evaluate] --cache is of the engine, which runs packed files: pack the run, or leave --cache out"
        )
    use_threads(args.threads or torch.get_num_threads())
    trained = load_run(args.model)
    if not isinstance(trained.task, ImageTask):
        return _evaluate_text_run(args, trained)
    if args.data is None:
        notes = check_own_data(trained.recipe, trained.known, trained.path)
        images = load_test_images(trained.recipe.data, trained.task, trained.recipe.seed)
        measured = ImagesToMeasure(images, "test", [*notes, *images.notes])
    else:
        measured = images_to_measure(args.data, trained.task, trained.record)
    _print_notes(measured.notes)
    start = time.perf_counter()
    result = evaluate(trained.model, measured.images, trained.task)
    seconds = time.perf_counter() - start
    return {"numerics": "PyTorch float32", **result, "part": measured.part, "seconds": seconds}


def _evaluate_text_run(args: argparse.Namespace, trained: Any) -> dict[str, Any]:
    from onebit.data.held_out import text_to_measure
    from onebit.data.text import load_validation_text
    from onebit.data.tokens import Unit
    from onebit.training import evaluate_text
    from onebit.training.sources import check_own_data

    recipe = trained.recipe
    unit: Unit = "line" if recipe.examples == "sentences" else "document"
    if args.data is None:
        changed = check_own_data(recipe, trained.known, trained.path)
        text, notes = load_validation_text(
            recipe.data, trained.task, unit, recipe.validation_data, recipe.validation_share, recipe.seed
        )
        notes = changed + notes
    else:
        text, notes = text_to_measure(args.data, trained.task, unit, trained.record)
    _print_notes(notes)
    start = time.perf_counter()
    metrics = evaluate_text(trained.model, text, trained.task, trained.model.context, recipe.examples)
    seconds = time.perf_counter() - start
    figures = metrics.figures(padded=recipe.examples == "sentences")
    return {"numerics": "PyTorch float32", "data": text.source, **figures, "seconds": seconds}


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        print(f"note: {one_line(note)}", file=sys.stderr)


def _evaluate_file(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    import onebit
    from onebit.data.held_out import images_to_measure
    from onebit.errors import OnebitError
    from onebit.runtime.session import ImageSession, softmax

    session = onebit.load(args.model, args.precision, args.threads, cache=args.cache)
    if args.data is None:
        raise OnebitError("[evaluate] a packed file does not know where its images or its text lie: give --data")
    if not isinstance(session, ImageSession):
        return _evaluate_text_file(args, session)
    if session.task is None:
        raise OnebitError(f"[{args.model}] is not a classifier of images")
    images, part, notes = images_to_measure(args.data, session.task, _record_of(args.model))
    _print_notes(notes)
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
        "part": part,
        "seconds": seconds,
    }


def _record_of(file: Path) -> DataRecord | None:
    """What a packed file tells of the data of its training; older files tell nothing."""
    from onebit.data.record import DataRecord
    from onebit.fileformat import load_model

    training = load_model(file).training
    return None if training is None else DataRecord.from_json(training)


def _evaluate_text_file(args: argparse.Namespace, session: Any) -> dict[str, Any]:
    from onebit.data.held_out import text_to_measure

    text, notes = text_to_measure(args.data, session.task, "document", _record_of(args.model))
    _print_notes(notes)
    start = time.perf_counter()
    figures = evaluate_session(session, text).figures()
    seconds = time.perf_counter() - start
    numerics = f"engine {args.precision}" + (f", {args.cache} cache" if args.cache else "")
    return {"numerics": numerics, "data": text.source, **figures, "seconds": seconds}


def evaluate_session(session: TextSession, text: TextSet) -> TextMetrics:
    """The figures of a packed language model on all of a text, in windows of its context."""
    import numpy as np

    from onebit.data.examples import Examples
    from onebit.metrics import TextMetrics, nats_of

    metrics = TextMetrics(session.task.description, session.context, text.tokens_per_byte)
    examples = Examples(text, session.context)
    for index in range(len(examples)):
        inputs, targets = (array[0] for array in examples.take(np.array([index])))
        count = int((targets >= 0).sum())
        nats, right = nats_of(session.logits(inputs[:count].tolist()), targets[:count])
        metrics.add(nats, right, np.ones(count, bool))
    return metrics
