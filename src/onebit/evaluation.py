"""Accuracy and loss of a trained network or a packed file, and perplexity and bits per byte of a language model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onebit.confidence import Reliability
from onebit.data.examples import Examples
from onebit.data.held_out import ImagesToMeasure, images_to_measure, text_to_measure
from onebit.data.images import ImageSet
from onebit.data.record import DataRecord
from onebit.data.tokens import TextSet, Unit
from onebit.early_exits import Spent
from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.images import ImageTask
from onebit.kinds.measuring import TaskFigures, measured, outputs_of_session, own_part, part_of
from onebit.metrics import AnswerMetrics, TextMetrics, nats_of
from onebit.pretrained import find
from onebit.printable import printable
from onebit.progress import track
from onebit.runtime.session import ArraySession, Cache, ImageSession, Precision, load
from onebit.runtime.tensors import TensorSession
from onebit.tasks.array_task import ArrayTask
from onebit.text import TextTask

if TYPE_CHECKING:
    from onebit.runtime.text import TextSession
    from onebit.training import Run

# The engine's batch size.
BATCH = 64
PYTORCH = "PyTorch float32"
# Of the windows that a text is measured in.
_LEAST_WINDOW = 512
_MOST_LOGITS = 1 << 26


@dataclass(frozen=True)
class ImageFigures:
    """How good an image classifier is. `str` is two lines.

    Args:
        model: the run folder or the file.
        numerics: what computed the outputs and at which precision, in words.
        accuracy: the share of right answers.
        loss: the mean cross-entropy, in nats.
        confidence: the mean probability that it gave to its answers.
        calibration_error: the expected calibration error; see `onebit.confidence`.
        images: the number of images measured.
        reliability: how often answers of each confidence were right; `onebit plot reliability` draws it.
        part: "test", or "all" if it may include images from training.
        seconds: the time of computing.
        notes: what a user should know, one sentence each.
        spent: with a confidence what the images have cost, else None.
    """

    model: str
    numerics: str
    accuracy: float
    loss: float
    confidence: float
    calibration_error: float
    images: int
    reliability: Reliability
    part: str
    seconds: float
    notes: tuple[str, ...] = ()
    spent: Spent | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        values = vars(self) | {"reliability": self.reliability.to_dict(), "notes": list(self.notes)}
        return values | {"spent": None if self.spent is None else self.spent.to_dict()}

    def __str__(self) -> str:
        what = "test images" if self.part == "test" else "images"
        return (
            f"{printable(self.model)} ({self.numerics}): accuracy {100 * self.accuracy:.2f} %, loss {self.loss:.4f} "
            f"on {self.images} {what}, {self.seconds:.1f} s\n"
            f"  confidence {100 * self.confidence:.1f} % on average; expected calibration error {100 * self.calibration_error:.1f} points"
            + ("" if self.spent is None else f"\n  {self.spent}")
        )


@dataclass(frozen=True)
class TextFigures:
    """How good a language model is. `str` is a few lines.

    Args:
        model: the run folder or the file.
        numerics: what computed the outputs and at which precision, in words.
        data: the text.
        loss: the mean cross-entropy per token, in nats.
        perplexity: the exponential of the loss.
        accuracy: how often the next token was the most probable one.
        bits_per_byte: bits per byte of the text in UTF-8. It can be compared between tokenizers.
        tokens: the number of predicted tokens, without padding.
        tokenizer, context: a description of the tokenizer, and the most tokens that a prediction looked at.
        seconds: the time of computing.
        padded_perplexity_not_comparable, padded_accuracy_not_comparable: the figures with padding counted, as the paper's tables seem to do; None
            if there is no padding.
        notes: what a user should know, one sentence each.
    """

    model: str
    numerics: str
    data: str
    loss: float
    perplexity: float
    accuracy: float
    bits_per_byte: float
    tokens: int
    tokenizer: str
    context: int
    seconds: float
    padded_perplexity_not_comparable: float | None = None
    padded_accuracy_not_comparable: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, without those that are None."""
        return {key: value for key, value in vars(self).items() if value is not None} | {"notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [
            f"{printable(self.model)} ({self.numerics}): {self.bits_per_byte:.4f} bits per byte, perplexity {self.perplexity:.3f}, "
            f"accuracy {100 * self.accuracy:.2f} %, loss {self.loss:.4f} on {self.tokens:,} tokens of {printable(self.data)}, "
            f"{self.seconds:.1f} s",
            f"  tokenizer: {self.tokenizer}; context: {self.context} tokens; padding is not counted",
        ]
        perplexity, accuracy = self.padded_perplexity_not_comparable, self.padded_accuracy_not_comparable
        if perplexity is not None and accuracy is not None:
            lines.append(
                f"  counting padding, for comparison with the paper's tables only: perplexity {perplexity:.3f}, "
                f"accuracy {100 * accuracy:.2f} %"
            )
        return "\n".join(lines)


def evaluate(
    run_or_file: str | Path | Run,
    data: str | Path | None = None,
    *,
    precision: Precision = "int8",
    cache: Cache | None = None,
    threads: int | None = None,
    confidence: float | None = None,
) -> ImageFigures | TextFigures | TaskFigures:
    """Measure a trained network in PyTorch, or a packed file in the engine, on held-out data.

    Args:
        run_or_file: a run folder, a `Run`, a `.onebit` file, or the name of one that comes with the package.
        data: a folder of images, a text file or folder, or the name of a data set. None uses the held-out part of the run's own data. A packed
            file needs `data`.
        precision, cache: the engine's; see `onebit.load`.
        confidence: of a packed classifier with exits or planes: nothing more is spent on an image whose answer is more probable than this. None:
            the network ends where its file says.
        threads: threads of PyTorch or of the engine. The default is PyTorch's own number, or one per core.

    Returns:
        `ImageFigures`, `TextFigures`, or `TaskFigures` of other kinds of tasks. A note says so if the data may include images or text from training.

    Raises:
        OnebitError: the run or the file cannot be read, or an argument does not fit.
        DataError: the data cannot be used, or contain a class that the network does not know.

    Example:
        >>> onebit.evaluate("runs/digits").images
        359
    """
    data = None if data is None else str(data)
    if isinstance(run_or_file, (str, Path)):
        path = find(run_or_file)
        if not path.is_dir():
            return _evaluate_file(path, data, precision, cache, threads, confidence)
        from onebit.training import load_run

        run_or_file = load_run(path)
    if confidence is not None:
        raise OnebitError("[evaluate] --confidence applies to packed files only: pack the run, or leave it out")
    if cache is not None:
        raise OnebitError("[evaluate] --cache applies to packed files only: pack the run, or leave --cache out")
    return _evaluate_run(run_or_file, data, threads)


def _evaluate_run(run: Run, data: str | None, threads: int | None) -> ImageFigures | TextFigures | TaskFigures:
    import torch

    from onebit.training.openmp import threads_in_use

    with threads_in_use(threads or torch.get_num_threads()):
        if isinstance(run.task, ArrayTask):
            return _run_on_arrays(run, data)
        return _run_on_images(run, data) if isinstance(run.task, ImageTask) else _run_on_text(run, data)


def _run_on_arrays(run: Run, data: str | None) -> TaskFigures:
    from onebit.training.arrays import outputs_of

    task = run.task
    assert isinstance(task, ArrayTask)
    held = own_part(run) if data is None else part_of(data, task, run.record)
    return measured(str(run.path), PYTORCH, task, held, lambda arrays: outputs_of(run.model, arrays, task))


def _run_on_images(run: Run, data: str | None) -> ImageFigures:
    from onebit.data import load_test_images
    from onebit.training import evaluate as figures_of
    from onebit.training.sources import check_own_data

    assert isinstance(run.task, ImageTask)
    if data is None:
        notes = check_own_data(run.recipe, run.known, run.path)
        images = load_test_images(run.recipe.data.source, run.task, run.recipe.run.seed)
        measured = ImagesToMeasure(images, "test", [*notes, *images.notes])
    else:
        measured = images_to_measure(data, run.task, run.record)
    start = time.perf_counter()
    figures = figures_of(run.model, measured.images, run.task).figures()
    seconds = time.perf_counter() - start
    return ImageFigures(
        model=str(run.path),
        numerics=PYTORCH,
        **figures,
        part=measured.part,
        seconds=seconds,
        notes=tuple(measured.notes),
    )


def _run_on_text(run: Run, data: str | None) -> TextFigures:
    from onebit.data.text import load_validation_text
    from onebit.training import TextRecipe, evaluate_text
    from onebit.training.sources import check_own_data

    recipe, task, model = run.recipe, run.task, run.model
    assert isinstance(recipe, TextRecipe) and isinstance(task, TextTask)
    unit: Unit = "line" if recipe.data.examples == "sentences" else "document"
    if data is None:
        changed = check_own_data(recipe, run.known, run.path)
        text, notes = load_validation_text(
            recipe.data.source, task, unit, recipe.data.validation_data, recipe.data.validation_share, recipe.run.seed
        )
        notes = changed + notes
    else:
        text, notes = text_to_measure(data, task, unit, run.record)
    start = time.perf_counter()
    context: int = model.context  # type: ignore[assignment]
    figures = evaluate_text(model, text, task, context, recipe.data.examples).figures(
        padded=recipe.data.examples == "sentences"
    )
    seconds = time.perf_counter() - start
    return TextFigures(str(run.path), PYTORCH, text.source, **figures, seconds=seconds, notes=tuple(notes))


def _evaluate_file(
    path: Path,
    data: str | None,
    precision: Precision,
    cache: Cache | None,
    threads: int | None,
    confidence: float | None = None,
) -> ImageFigures | TextFigures | TaskFigures:
    session = load(path, precision, threads, cache=cache)
    if confidence is not None and not (isinstance(session, ImageSession) and session.task is not None):
        raise OnebitError("[evaluate] --confidence applies to classifiers of images: leave it out")
    if data is None:
        raise OnebitError("[evaluate] a packed file does not record where its data are: give --data")
    training = load_model(path).training  # older files do not record it
    record = None if training is None else DataRecord.from_json(training)
    if isinstance(session, ArraySession) and isinstance(session.task, ArrayTask):
        held, numerics = part_of(data, session.task, record), f"engine {session.precision}"
        packed = session
        return measured(str(path), numerics, session.task, held, lambda arrays: outputs_of_session(packed, arrays))
    if isinstance(session, ArraySession):
        if not isinstance(session, ImageSession) or session.task is None:
            raise OnebitError(f"[{path}] is not an image classifier")
        images, part, notes = images_to_measure(data, session.task, record)
        start = time.perf_counter()
        metrics, spent = _answers_and_cost(session, images, confidence)
        figures = metrics.figures()
        seconds = time.perf_counter() - start
        numerics = f"engine {session.precision}" + ("" if confidence is None else f", confidence {confidence:g}")
        return ImageFigures(str(path), numerics, **figures, part=part, seconds=seconds, spent=spent, notes=tuple(notes))
    if isinstance(session, TensorSession):
        raise OnebitError(
            f"[{path}] takes tensors: onebit does not know what its answers mean; use onebit.load and run"
        )
    text, notes = text_to_measure(data, session.task, "document", record)
    start = time.perf_counter()
    figures = evaluate_session(session, text).figures()
    seconds = time.perf_counter() - start
    numerics = f"engine {session.precision}" + (f", {cache} cache" if cache else "")
    return TextFigures(str(path), numerics, text.source, **figures, seconds=seconds, notes=tuple(notes))


def evaluate_images(session: ImageSession, images: ImageSet) -> AnswerMetrics:
    """The answers of a packed classifier to images."""
    return _answers_and_cost(session, images, None)[0]


def _answers_and_cost(
    session: ImageSession, images: ImageSet, confidence: float | None
) -> tuple[AnswerMetrics, Spent | None]:
    """The answers, and with a confidence what they have cost."""
    metrics, places, spent = AnswerMetrics(), [], None
    for first in track(range(0, len(images), BATCH), "measure", "images", BATCH, len(images)):
        pixels = np.ascontiguousarray(images.pixels[first : first + BATCH])
        if confidence is None:
            logits = session(pixels)
        else:
            logits, some, spent = session.run_adaptively(pixels, confidence)
            places.append(some)
        metrics.add(logits, images.labels[first : first + BATCH])
    return metrics, None if spent is None else spent(np.concatenate(places))


def evaluate_session(session: TextSession, text: TextSet) -> TextMetrics:
    """The figures of a packed language model on a whole text, in windows as long as its context."""
    # A window's logits take at most 256 MB.
    context = min(session.context, max(_LEAST_WINDOW, _MOST_LOGITS // session.vocabulary))
    metrics = TextMetrics(session.task.description, context, text.tokens_per_byte)
    examples = Examples(text, context)
    for index in track(range(len(examples)), "measure", "windows"):
        inputs, targets = (array[0] for array in examples.take(np.array([index])))
        count = int((targets >= 0).sum())
        nats, right = nats_of(session.logits(inputs[:count].tolist()), targets[:count])
        metrics.add(nats, right, np.ones(count, bool))
    return metrics
