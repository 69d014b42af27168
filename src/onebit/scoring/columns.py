"""Choose the columns of Parquet files to read, by name and type or as the user names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from onebit.errors import DataError

Content = Literal["bytes", "struct", "path", "text"]
# The names to look for, in this order.
_NAMES = {"image": ("image", "bytes", "path"), "text": ("text",)}


@dataclass(frozen=True)
class Columns:
    """The columns to read from each file.

    Args:
        content: the column to score.
        type: the form of its values: encoded images, Hugging Face's {bytes, path}, paths of images, or texts.
        carried: the name and type of each column that is copied to the output: `id`, if there is one, and those that the user asked for.
    """

    content: str
    type: Content
    carried: tuple[tuple[str, pa.DataType], ...] = ()

    @property
    def names(self) -> list[str]:
        """All columns to read, each once."""
        return list(dict.fromkeys([self.content, *(name for name, _ in self.carried)]))


def find_columns(
    schema: pa.Schema,
    path: Path,
    kind: Literal["image", "text"],
    column: str | None,
    keep: Sequence[str],
    known: Columns | None = None,
) -> Columns:
    """The columns of one file. They must equal `known`, the columns of the files before it.

    Raises:
        DataError: a column is missing, has a type that cannot be scored, or differs between files.
    """
    there = ", ".join(schema.names)
    for name in dict.fromkeys([*([column] if column else []), *keep]):
        if schema.names.count(name) != 1:
            raise DataError(f"[{path}] has no column {name!r} of that name alone: it has {there}")
    content = column or (known and known.content) or _default(schema, kind)
    if content is None or content not in schema.names:
        wanted = " or ".join(repr(name) for name in _NAMES[kind])
        raise DataError(f"[{path}] has no column {wanted} with {_wanted(kind)}: it has {there}; name one with --column")
    type_ = _content(schema.field(content).type, kind)
    if type_ is None:
        raise DataError(f"[{path}] column {content!r} is {schema.field(content).type}: needs {_wanted(kind)}")
    names = [*(["id"] if schema.names.count("id") == 1 else []), *keep]
    carried = tuple((name, schema.field(name).type) for name in dict.fromkeys(names))
    columns = Columns(content, type_, carried)
    if known is not None and columns != known:
        raise DataError(f"[{path}] has other columns or types than the files before it: score it by itself")
    return columns


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file. Raises DataError if it is not one or cannot be read."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"[{path}] cannot be read: {error.strerror}") from None
        raise DataError(
            f"[{path}] is not a Parquet file, or is damaged ({str(error).splitlines()[0].strip(': ')})"
        ) from None


def _default(schema: pa.Schema, kind: Literal["image", "text"]) -> str | None:
    for name in _NAMES[kind]:
        if schema.names.count(name) == 1 and _content(schema.field(name).type, kind):
            return name
    # A column of paths could mean anything. Bytes in a table of images are images, and the only string next to an id is the text.
    fitting = [f.name for f in schema if f.name != "id" and _content(f.type, kind) not in (None, "path")]
    return fitting[0] if len(fitting) == 1 else None


def _content(type_: pa.DataType, kind: Literal["image", "text"]) -> Content | None:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return "path" if kind == "image" else "text"
    if kind == "text":
        return None
    if pa.types.is_struct(type_):
        return "struct" if any(f.name == "bytes" and _content(f.type, kind) == "bytes" for f in type_) else None
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_):
        return "bytes"
    return None


def _wanted(kind: Literal["image", "text"]) -> str:
    return "encoded images (binary, or a struct with bytes) or their paths" if kind == "image" else "text (a string)"
