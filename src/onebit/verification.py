"""Check that a packed file gives the outputs of the trained network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.data import load_test_images
from onebit.data.text import load_evaluation_text, load_validation_text
from onebit.errors import DataError, OnebitError
from onebit.fileformat import PackedModel, load_model
from onebit.images import ImageTask
from onebit.kinds.kinds import kind_of
from onebit.pretrained import find
from onebit.printable import printable
from onebit.processors import cores
from onebit.progress import track
from onebit.runtime import load, load_text_session, reference
from onebit.runtime.session import Precision
from onebit.runtime.verify import FLOAT32_TOLERANCE, ROUNDED_SHARE, compare
from onebit.tasks.array_task import ArrayTask
from onebit.text import TextTask

if TYPE_CHECKING:
    from onebit.training import Run

# The reference is plain NumPy: a few images or tokens take it as long as thousands take the engine.
REFERENCE_IMAGES = 16
REFERENCE_TEXTS = 1
# The number of texts, each as long as the context, that are compared by default.
TEXTS = 8
# The batch size.
BATCH = 64

By = Literal["NumPy", "engine"]
Compute = Callable[[], NDArray[np.float32]]
_PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


@dataclass(frozen=True)
class Computation:
    """What computed the outputs. `str` names it.

    Args:
        by: the NumPy reference or the engine.
        precision: its arithmetic.
        one_by_one: whether a text is fed token by token instead of in one pass.
    """

    by: By
    precision: Precision
    one_by_one: bool = False

    def __str__(self) -> str:
        return f"{self.by} {self.precision}" + (", token by token" if self.one_by_one else "")


@dataclass(frozen=True)
class Comparison:
    """The outputs of one computation compared with PyTorch's in float32. `str` gives the figures.

    Args:
        computation: what computed the outputs.
        relative: the largest difference, relative to the largest output.
        changed: the number of images or tokens with a different answer, which is the largest output.
        compared: the number of images or tokens.
        beyond: how many of them differ by more than `FLOAT32_TOLERANCE`.
        seconds: the time of the computation.
    """

    computation: Computation
    relative: float
    changed: int
    compared: int
    beyond: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        values = {key: value for key, value in vars(self).items() if key != "computation"}
        return {"computed by": str(self.computation), **values}

    def __str__(self) -> str:
        share = 100 * self.changed / self.compared
        return (
            f"largest relative difference {self.relative:.1e}, "
            f"{self.changed} of {self.compared} answers differ ({share:.2f} %), {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `str` is a table with the verdict.

    Args:
        file, run: the file and the run folder.
        comparisons: the comparisons of the NumPy reference and of the engine, at both precisions.
        rounded: whether the network quantises the inputs of its layers. A value between two levels may then round to the other one.
    """

    file: str
    run: str
    comparisons: tuple[Comparison, ...]
    rounded: bool

    def of(self, by: By, precision: Precision) -> list[Comparison]:
        """The comparisons of a computation. Those in one pass come first."""
        return [c for c in self.comparisons if (c.computation.by, c.computation.precision) == (by, precision)]

    @property
    def equal(self) -> bool:
        """Whether the float32 engine agrees with PyTorch: no output beyond the tolerance, or only few if inputs are rounded."""
        share = ROUNDED_SHARE if self.rounded else 0
        return all(c.beyond <= share * c.compared for c in self.of("engine", "float32"))

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        rows = [comparison.to_dict() for comparison in self.comparisons]
        return {"file": self.file, "run": self.run, "equal": self.equal, "comparisons": rows}

    def __str__(self) -> str:
        lines = [f"{printable(self.file)} against {printable(self.run)} in PyTorch float32:"]
        width = max(len(str(c.computation)) for c in self.comparisons)
        lines += [f"  {c.computation!s:<{width}} {c}" for c in self.comparisons]
        if not self.equal:
            rest = f" in all but {ROUNDED_SHARE:.0%} of the outputs" if self.rounded else ""
            return "\n".join([*lines, f"NOT EQUAL: float32 may differ by at most {FLOAT32_TOLERANCE:.0e}{rest}"])
        lines.append("the packed file gives the outputs of the trained network")
        beyond = sum(c.beyond for c in self.of("engine", "float32"))
        if beyond:
            why = "a value between two levels of a layer's inputs rounded to the other one"
            lines.append(f"{beyond} outputs differ by more: {why}")
        return "\n".join(lines)


def verify(
    file: str | Path,
    run: str | Path | Run,
    data: str | Path | None = None,
    *,
    checkpoint: Literal["best", "last"] = "best",
    limit: int | None = None,
    threads: int | None = None,
) -> Verification:
    """Compare a packed file, in the NumPy reference and in the engine at both precisions, with its network in PyTorch.

    Args:
        file: a `.onebit` file, or the name of one that comes with the package.
        run: its run folder, or a `Run`.
        data: other images or another text. The default is the run's own held-out data.
        checkpoint: the network of a run folder, "best" or "last".
        limit: use only the first images, or the first texts of full context length. The default is all images, or `TEXTS` texts.
        threads: the threads of PyTorch and of the engine. The default is one per core.

    Raises:
        OnebitError: the file or the run cannot be read, they belong to different networks, or an argument is out of range.
        DataError: the data cannot be used.

    Example:
        >>> onebit.verify("runs/digits.onebit", "runs/digits").equal
        True
    """
    from onebit.training import load_run
    from onebit.training.openmp import threads_in_use

    path, source = find(file), None if data is None else str(data)
    with threads_in_use(threads or cores()):
        trained = load_run(run, checkpoint) if isinstance(run, (str, Path)) else run
        if limit is not None and limit < 1:
            raise OnebitError(f"[verify] --limit {limit}: use 1 or more")
        packed = load_model(path)
        if isinstance(trained.task, ArrayTask):
            comparisons = compare_arrays(path, packed, trained, _test_arrays(trained, source)[:limit], threads)
        elif isinstance(trained.task, ImageTask):
            comparisons = compare_images(path, packed, trained, _test_pixels(trained, source)[:limit], threads)
        else:
            comparisons = compare_texts(path, packed, trained, _texts(trained, source, limit or TEXTS), threads)
    rounded = any("input" in step.attributes for step in packed.program.steps)
    return Verification(str(path), str(trained.path), tuple(comparisons), rounded)


def _test_arrays(run: Run, data: str | None) -> NDArray[Any]:
    from onebit.training.sources import check_there

    if data is None:
        check_there(run.recipe, run.known, run.path)
    return kind_of(run.task).divided(data or run.recipe.data.source, run.task, run.recipe.run.seed).test.inputs


def _test_pixels(run: Run, data: str | None) -> NDArray[np.uint8]:
    from onebit.training.sources import check_there

    assert isinstance(run.task, ImageTask)
    if data is None:
        check_there(run.recipe, run.known, run.path)
    return load_test_images(data or run.recipe.data.source, run.task, run.recipe.run.seed).pixels


def compare_images(
    file: Path, packed: PackedModel, run: Run, pixels: NDArray[np.uint8], threads: int | None
) -> list[Comparison]:
    """Compare the reference and the engine with PyTorch on uint8 images (n, height, width, channels)."""
    from onebit.training.batches import scale_pixels

    task = run.task
    assert isinstance(task, ImageTask)
    if packed.program.input_shape != pixels.shape[1:] or packed.task.get("labels") != list(task.labels):
        raise OnebitError(
            f"[verify] {file} takes other images or has other labels than {run.path}: it was packed from another run"
        )
    return _compare_batches(file, packed, run, pixels, lambda part: scale_pixels(part, task), threads)


def compare_arrays(
    file: Path, packed: PackedModel, run: Run, inputs: NDArray[Any], threads: int | None
) -> list[Comparison]:
    """Compare the reference and the engine with PyTorch on inputs (n, ...) as the program takes them."""
    from onebit.training.arrays import to_network

    task = run.task
    assert isinstance(task, ArrayTask)
    if packed.program.input_shape != inputs.shape[1:] or packed.task != json.loads(json.dumps(task.to_json())):
        raise OnebitError(f"[verify] {file} has another task than {run.path}: it was packed from another run")
    return _compare_batches(file, packed, run, inputs, lambda part: to_network(part, task), threads)


def _compare_batches(
    file: Path,
    packed: PackedModel,
    run: Run,
    pixels: NDArray[Any],
    seen: Callable[[NDArray[Any]], Any],
    threads: int | None,
) -> list[Comparison]:
    """Compare on inputs that a network sees as `seen` makes them."""
    import torch

    from onebit.training.arrays import from_network

    task: Any = run.task

    def batches(compute: Callable[[NDArray[Any]], Any], count: int, work: object) -> Compute:
        def all_of_them() -> NDArray[np.float32]:
            firsts = track(range(0, count, BATCH), str(work), "images", BATCH, count)
            return np.concatenate([compute(np.ascontiguousarray(pixels[i : min(i + BATCH, count)])) for i in firsts])

        return all_of_them

    def pytorch(part: NDArray[Any]) -> Any:
        with torch.inference_mode():
            return from_network(run.model(seen(part))) / np.float32(task.temperature)

    def numpy(precision: Precision) -> Callable[[NDArray[Any]], Any]:
        # A network in PyTorch does not end early.
        return lambda part: reference.run_to_exits(packed.program, packed.tensors, part, precision, 1.0)[0]

    expected = batches(pytorch, len(pixels), "PyTorch")()
    few = min(REFERENCE_IMAGES, len(pixels))
    jobs: dict[Computation, Compute] = {}
    for computation in (Computation("NumPy", precision) for precision in _PRECISIONS):
        jobs[computation] = batches(numpy(computation.precision), few, computation)
    for computation in (Computation("engine", precision) for precision in _PRECISIONS):
        session: Any = load(file, precision=computation.precision, threads=threads)
        jobs[computation] = batches(session.whole, len(pixels), computation)
    return list(_compare(jobs, expected))


def _texts(run: Run, data: str | None, count: int) -> NDArray[np.int64]:
    """The first held-out texts of full context length, int64 (count, context)."""
    from onebit.training import TextRecipe
    from onebit.training.sources import check_there

    recipe, task = run.recipe, run.task
    assert isinstance(recipe, TextRecipe) and isinstance(task, TextTask)
    context: int = run.model.context  # type: ignore[assignment]
    if data is None:
        check_there(recipe, run.known, run.path)
        text, _ = load_validation_text(
            recipe.data.source,
            task,
            "document",
            recipe.data.validation_data,
            recipe.data.validation_share,
            recipe.run.seed,
        )
    else:
        text, _ = load_evaluation_text(data, task)
    count = min(count, len(text) // context)
    if not count:
        raise DataError(f"[{text.source}] has {len(text)} tokens: needs at least the context of {context}")
    return np.asarray(text.tokens[: count * context], np.int64).reshape(count, context)


def compare_texts(
    file: Path, packed: PackedModel, run: Run, tokens: NDArray[np.int64], threads: int | None
) -> list[Comparison]:
    """Compare the reference and the engine, in one pass and token by token, with PyTorch on texts, int64 (n, context)."""
    import torch

    context: int = run.model.context  # type: ignore[assignment]
    same = packed.task.get("vocabulary") == run.task.to_json()["vocabulary"]
    if not same or packed.program.input_shape != (context,):
        raise OnebitError(
            f"[verify] {file} has another vocabulary or context than {run.path}: it was packed from another run"
        )

    def numpy(precision: Precision) -> Compute:
        few = tokens[:REFERENCE_TEXTS]

        def logits() -> NDArray[np.float32]:
            texts = track(few, str(Computation("NumPy", precision)), "texts")
            return np.concatenate(
                [reference.run(packed.program, packed.tensors, text[None], precision)[0] for text in texts]
            )

        return logits

    def engine(precision: Precision) -> Iterator[tuple[Computation, Compute]]:
        session = load_text_session(file, precision=precision, threads=threads)

        def logits(one_by_one: bool) -> Compute:
            work = str(Computation("engine", precision, one_by_one))
            return lambda: np.concatenate(
                [session.logits(text, one_by_one=one_by_one) for text in track(tokens, work, "texts")]
            )

        for one_by_one in (False, True):
            yield Computation("engine", precision, one_by_one), logits(one_by_one)

    with torch.inference_mode():
        texts = track(tokens, "PyTorch", "texts")
        expected = np.concatenate([run.model(torch.from_numpy(text[None])).float().numpy()[0] for text in texts])
    jobs = {Computation("NumPy", precision): numpy(precision) for precision in _PRECISIONS}
    for precision in _PRECISIONS:
        jobs |= engine(precision)
    return list(_compare(jobs, expected))


def _compare(jobs: dict[Computation, Compute], expected: NDArray[np.float32]) -> Iterator[Comparison]:
    """Compare each computation with the first of the expected outputs, and measure its time."""
    for computation, compute in jobs.items():
        start = time.perf_counter()
        made = compute()
        seconds = time.perf_counter() - start
        found = compare(made, expected[: len(made)])
        yield Comparison(computation, found.relative, found.changed, found.compared, found.beyond, seconds)
