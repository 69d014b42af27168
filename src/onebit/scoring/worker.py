"""The worker: a Ray Data actor with one session that turns parts into Parquet files.

The worker reads the files, not `ray.data.read_parquet` or `read_binary_files`. Those divide the data into blocks by the available memory, so that
two runs may have different blocks and a killed run could not continue exactly. They also fail as a whole if one file is broken. Ray Data streams
the parts to the workers, replaces workers that die, and returns the files.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from onebit.errors import FormatError, OnebitError
from onebit.runtime.session import Precision, load
from onebit.scoring.columns import Columns
from onebit.scoring.parts import Part
from onebit.scoring.records import Record, read_part
from onebit.scoring.scorers import Scores, make_scorer

ERROR_SCHEMA = pa.schema([("id", pa.string()), ("path", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Options:
    """The options that affect results. The same model, options and data give the same files.

    Args:
        precision: the engine's arithmetic.
        top: the number of labels per image.
        logits: whether to write logits.
        columns: the columns of Parquet files.
    """

    precision: Precision = "int8"
    top: int = 5
    logits: bool = False
    columns: Columns | None = None

    def to_json(self) -> dict[str, Any]:
        """The options as plain JSON values."""
        values = asdict(self)
        if self.columns is not None:
            values["columns"] = {**values["columns"], "carried": [[n, str(t)] for n, t in self.columns.carried]}
        return values


@dataclass(frozen=True)
class Scored:
    """A scored part: the bytes of a Parquet file, of another with failed records (empty if none failed), and the numbers of records."""

    scores: bytes
    errors: bytes
    scored: int
    failed: int


def digest_of(file: Path) -> str:
    """The SHA-256 of a model's file."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise FormatError(f"[{file}] no such file") from None
    except OSError as error:
        raise FormatError(f"[{file}] cannot be read: {error.strerror}") from None


class PartScorer:
    """Scores parts with a model.

    Args:
        file: the packed model.
        options: what to compute.
        threads: the engine's threads.
        digest: the digest of the file at the start of the run; None does not compare it.

    Raises:
        OnebitError: the file has changed, does not load, or its model cannot score.
    """

    def __init__(self, file: Path, options: Options, threads: int, digest: str | None = None) -> None:
        if digest is not None and digest_of(file) != digest:
            raise OnebitError(
                f"[{file}] is not the model that the run was started with: put the same file on each machine"
            )
        self._columns = options.columns
        self._scorer = make_scorer(load(file, options.precision, threads), options.top, options.logits)
        carried = [pa.field(name, type_) for name, type_ in (options.columns.carried if options.columns else ())]
        own = [pa.field("path", pa.string()), *self._scorer.fields]
        taken = {field.name for field in own}
        ids = [field for field in carried if field.name == "id"] or [pa.field("id", pa.string())]
        rest = [field for field in carried if field.name != "id"]
        self._id_is_carried = len(rest) < len(carried)
        self._kept = [field.name for field in rest]
        # The data set's own label keeps its own column next to the model's.
        named = [field.with_name(f"input_{field.name}" if field.name in taken else field.name) for field in rest]
        self.schema = pa.schema([*ids, *own, *named])

    def score(self, part: Part) -> Scored:
        """Read and score all records of a part."""
        tables: list[pa.Table] = []
        errors: list[dict[str, str]] = []
        for chunk in read_part(part, self._columns):
            results = self._scorer.score(chunk.records)
            good = [i for i, result in enumerate(results) if not isinstance(result, str)]
            names = (
                chunk.carried.column("id").to_pylist() if chunk.carried is not None and self._id_is_carried else None
            )
            for i, (record, result) in enumerate(zip(chunk.records, results, strict=True)):
                if isinstance(result, str):
                    name = record.id if names is None or names[i] is None else str(names[i])
                    errors.append({"id": name, "path": record.path, "reason": result})
            if good:
                tables.append(self._table(chunk.carried, [(chunk.records[i], results[i]) for i in good], good))
        scores = pa.concat_tables(tables) if tables else self.schema.empty_table()
        failed = _file_bytes(pa.Table.from_pylist(errors, ERROR_SCHEMA)) if errors else b""
        return Scored(_file_bytes(scores), failed, len(scores), len(errors))

    def _table(self, carried: pa.RecordBatch | None, good: list[tuple[Record, Any]], indices: list[int]) -> pa.Table:
        own: list[Scores] = [{"id": record.id, "path": record.path, **scores} for record, scores in good]
        width = len(self.schema) - len(self._kept)
        fields = [pa.field("id", pa.string()), *(self.schema.field(i) for i in range(1, width))]
        arrays = pa.Table.from_pylist(own, pa.schema(fields)).columns
        if carried is not None:
            taken = carried.take(pa.array(indices))
            if self._id_is_carried:
                arrays[0] = taken.column("id")
            arrays += [taken.column(name) for name in self._kept]
        return pa.Table.from_arrays(arrays, schema=self.schema)


class RayWorker:
    """`PartScorer` in the form that Ray Data calls: takes a row with a part, returns a row with its files."""

    def __init__(self, file: str, options: Options, threads: int, digest: str) -> None:
        self._scorer: PartScorer | None = None
        self._problem = ""
        try:
            self._scorer = PartScorer(Path(file), options, threads, digest)
        except (OnebitError, OSError) as error:
            # An exception would reach the user inside pages of Ray's output; a result arrives as it is.
            self._problem = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score one part."""
        began = time.perf_counter()
        scored = Scored(b"", b"", 0, 0) if self._scorer is None else self._scorer.score(Part.from_json(row["part"]))
        result = {"index": row["index"], "problem": self._problem, **asdict(scored)}
        return {**result, "seconds": time.perf_counter() - began}


def _file_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())
