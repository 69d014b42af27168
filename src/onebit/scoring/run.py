"""Scores all of a data set, as much of it as was not scored before."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.errors import DataError, OnebitError
from onebit.paths import expand
from onebit.printable import printable
from onebit.runtime.session import ImageSession, Precision, load
from onebit.scoring.cluster import cluster, require_ray

if TYPE_CHECKING:
    from onebit.scoring.worker import Scored

# records that were scored or failed so far, of how many, and how many a second
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Summary:
    """What came of it. `str` is some lines.

    Args:
        out: the folder.
        records: in the data.
        scored: of them, with a row in the folder's files.
        failed: the others, listed in `errors`.
        before: how many a run before this one had scored or listed.
        workers, threads: sessions, and threads of each; 0 where nothing was left to do.
        seconds: of scoring.
        start_seconds: until the first worker could begin: reading what there is, and Ray's start.
        notes: what a user should know, a sentence each.
    """

    out: Path
    records: int
    scored: int
    failed: int
    before: int
    workers: int
    threads: int
    seconds: float
    start_seconds: float
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> Path | None:
        """The folder that lists the records that failed, where there are any."""
        return self.out / "_errors" if self.failed else None

    @property
    def records_per_second(self) -> float:
        """Of this run, without its start."""
        return (self.records - self.before) / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, with `errors` and `records_per_second`."""
        return {
            **asdict(self),
            "out": str(self.out),
            "notes": list(self.notes),
            "records_per_second": self.records_per_second,
            "errors": str(self.errors) if self.errors else None,
        }

    def __str__(self) -> str:
        before = f" ({self.before:,} of them before)" if self.before else ""
        lines = [f"scored {self.scored:,} of {self.records:,} records{before} into {printable(self.out)}"]
        if self.errors:
            lines.append(f"  {self.failed:,} failed: {printable(self.errors)} has them with the reasons")
        if self.workers:
            lines.append(
                f"  {self.records_per_second:,.0f} records/s with {self.workers} workers of {self.threads} threads: {self.seconds:.1f} s, "
                f"after {self.start_seconds:.1f} s until they began"
            )
        return "\n".join(lines)


def score(
    file: str | Path,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    lines: bool = False,
    column: str | None = None,
    keep: Sequence[str] = (),
    top: int = 5,
    logits: bool = False,
    precision: Precision = "int8",
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
    part_records: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Score many images or texts with a packed model, and write the scores into a folder of Parquet files.

    A run that was stopped, in whatever way, is taken up by the same call: what is missing is scored, and each record is there once.

    Args:
        file: a `.onebit` file, a classifier of images or a language model.
        data: folders and files of images, of text, or of Parquet.
        out: the folder.
        lines: each line of a text file is a record.
        column: of Parquet files, what is scored; default by name and type.
        keep: columns of Parquet files that go to the output.
        top: labels for each image.
        logits: whether the logits of images are written too.
        precision: of the engine.
        workers: processes, each with a session; default one for each processor.
        threads: of each worker's engine; default the processors divided among the workers.
        address: of a Ray cluster, see `onebit.scoring.cluster.cluster`.
        part_records: records of an output file; default by how many there are.
        overwrite: removes scores that are in the folder and begins anew.
        progress: called after each part.

    Raises:
        OnebitError: Ray is missing or does not answer, the model has no scores to give, the data cannot be used, or no record could be scored.
        OSError: the folder cannot be written.

    Example:
        >>> summary = onebit.score("pets.onebit", "photos", "scores", workers=2)
        >>> pandas.read_parquet("scores")
    """
    began = time.perf_counter()
    require_ray(address)
    from onebit.scoring.folder import open_folder
    from onebit.scoring.parts import Kind, plan
    from onebit.scoring.scorers import make_scorer
    from onebit.scoring.worker import Options, digest_of

    file, out = expand(file).absolute(), expand(out)
    paths = [expand(data)] if isinstance(data, (str, Path)) else [expand(path) for path in data]
    for name, value in (("top", top), ("part_records", part_records)):
        if value is not None and value < 1:
            raise OnebitError(f"[score] {name}={value}: use 1 or more")
    session = load(file, precision, 1)  # refused here rather than in a worker
    make_scorer(session)
    kind: Kind = "image" if isinstance(session, ImageSession) else "text"
    if kind == "text" and logits:
        raise OnebitError("[score] --logits is for classifiers of images: leave it out")
    del session
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise DataError(f"[{out}] lies in {path}, which is read: give a folder outside of it with --out")
    planned = plan(kind, paths, lines, column, keep, part_records)
    options = Options(precision, top, logits, planned.columns)
    model = {"model": digest_of(file), "options": {**options.to_json(), "part_records": part_records}}
    with contextlib.ExitStack() as stack:
        # What is there is removed only when Ray is known to run.
        sizes = stack.enter_context(cluster(workers, threads, address)) if overwrite else None
        folder = stack.enter_context(open_folder(out, model, planned.parts, overwrite))
        missing = folder.missing
        before = planned.records - sum(planned.parts[index].records for index in missing)
        count = each = done = 0
        start_seconds = time.perf_counter() - began
        if missing:
            count, each = sizes or stack.enter_context(cluster(workers, threads, address))
            count = min(count, len(missing))
            rows = [{"index": index, "part": planned.parts[index].to_json()} for index in missing]
            arguments = {"file": str(file), "options": options, "threads": each, "digest": model["model"]}
            for index, scored, seconds in _stream(rows, count, each, arguments):
                if not done:  # the first worker began so many seconds ago
                    start_seconds = time.perf_counter() - began - seconds
                folder.write(index, scored)
                done += planned.parts[index].records
                if progress is not None:
                    passed = time.perf_counter() - began - start_seconds
                    progress(before + done, planned.records, done / max(passed, 1e-9))
        seconds = time.perf_counter() - began - start_seconds
        scored_records, failed = folder.counts()
        if scored_records + failed != planned.records:
            raise OnebitError(f"[{out}] has {scored_records + failed} of {planned.records} records: run again")
        if not scored_records:
            reason = folder.first_error()
            raise DataError(
                f"[score] none of {failed} records could be scored, see {folder.errors}; the first is {reason}"
            )
    return Summary(
        out,
        planned.records,
        scored_records,
        failed,
        before,
        count,
        each,
        seconds if count else 0.0,
        start_seconds,
        tuple(planned.notes),
    )


def _stream(
    rows: list[dict[str, Any]], workers: int, threads: int, arguments: dict[str, Any]
) -> Iterator[tuple[int, Scored, float]]:
    """The parts that rows name, scored, each with its number and how long it took, as they are done."""
    import ray
    import ray.data

    from onebit.scoring.worker import RayWorker, Scored

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A block a part: it is what a worker takes at a time, and what it brings back.
    parts = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        RayWorker,
        fn_constructor_kwargs=arguments,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=threads,
    )
    try:
        for row in parts.iter_rows():
            if row["problem"]:
                raise OnebitError(row["problem"])
            scored = Scored(row["scores"], row["errors"], row["scored"], row["failed"])
            yield row["index"], scored, row["seconds"]
    except ray.exceptions.RayError as error:
        raise OnebitError(f"[score] a worker stopped: {_last_words(error)}; run again to go on") from None


def _last_words(error: Exception) -> str:
    """What a worker's exception said itself, out of Ray's pages about it."""
    own = str(error).split("The above exception was the direct cause")[0]
    lines = [line.strip() for line in own.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
