"""Score a data set, or the part of it that is not scored yet."""

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

# the number of records done (scored or failed), the number of all records, and records per second
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Summary:
    """The result of `score`. `str` is a few lines.

    Args:
        out: the output folder.
        records: the number of records in the data.
        scored: the number of records with scores in the folder.
        failed: the number of records that failed, which `errors` lists.
        before: the number of records that an earlier run had finished.
        workers, threads: the number of workers, and threads of each; 0 if there was nothing left to do.
        seconds: the time of scoring.
        start_seconds: the time until the first worker began: finding the records, and starting Ray.
        notes: what a user should know, one sentence each.
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
        """The folder that lists the records that failed, or None."""
        return self.out / "_errors" if self.failed else None

    @property
    def records_per_second(self) -> float:
        """Records per second of this run, without the time of its start."""
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
        before = f" ({self.before:,} of them in earlier runs)" if self.before else ""
        lines = [f"scored {self.scored:,} of {self.records:,} records{before} into {printable(self.out)}"]
        if self.errors:
            lines.append(f"  {self.failed:,} failed: {printable(self.errors)} lists them with the reasons")
        if self.workers:
            lines.append(
                f"  {self.records_per_second:,.0f} records/s with {self.workers} workers of {self.threads} threads: {self.seconds:.1f} s, "
                f"after a start of {self.start_seconds:.1f} s"
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

    The same call continues a run that was stopped. It scores the missing records, and each record appears once.

    Args:
        file: a `.onebit` file with an image classifier or a language model.
        data: folders and files of images, of text, or of Parquet.
        out: the output folder.
        lines: each line of a text file is a record.
        column: the column of Parquet files to score. The default depends on names and types.
        keep: the columns of Parquet files to copy to the output.
        top: the number of labels per image.
        logits: whether to write the logits of images too.
        precision: the engine's arithmetic.
        workers: processes, each with its own session. The default is one per processor.
        threads: the threads of each worker's engine. The default is the processors divided among the workers.
        address: the address of a Ray cluster; see `onebit.scoring.cluster.cluster`.
        part_records: records per output file. The default depends on the number of records.
        overwrite: remove the scores in the folder and start again.
        progress: a function to call after each part.

    Raises:
        OnebitError: Ray is missing or does not answer, the model cannot score, the data cannot be used, or no record could be scored.
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
    session = load(file, precision, 1)  # a file that does not load is refused here, not in a worker
    make_scorer(session)
    kind: Kind = "image" if isinstance(session, ImageSession) else "text"
    if kind == "text" and logits:
        raise OnebitError("[score] --logits applies to image classifiers: leave it out")
    del session
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise DataError(f"[{out}] lies in {path}, which is read: give a folder outside it with --out")
    planned = plan(kind, paths, lines, column, keep, part_records)
    options = Options(precision, top, logits, planned.columns)
    model = {"model": digest_of(file), "options": {**options.to_json(), "part_records": part_records}}
    with contextlib.ExitStack() as stack:
        # Existing scores are removed only after Ray has started.
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
                if not done:  # the first worker began `seconds` ago
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
            raise DataError(f"[score] all {failed} records failed, see {folder.errors}; the first is {reason}")
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
    """Score the parts in `rows`. Yields each as it is done: its index, its scores and its time."""
    import ray
    import ray.data

    from onebit.scoring.worker import RayWorker, Scored

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # One block per part: a worker takes one block at a time.
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
        raise OnebitError(f"[score] a worker stopped: {_last_words(error)}; run again to continue") from None


def _last_words(error: Exception) -> str:
    """The worker's own message, without the pages that Ray adds to it."""
    own = str(error).split("The above exception was the direct cause")[0]
    lines = [line.strip() for line in own.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
