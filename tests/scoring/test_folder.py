"""The output folder: which runs may continue, which parts are done, and every refusal."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onebit.errors import DataError, OnebitError
from onebit.scoring.folder import open_folder
from onebit.scoring.parts import Part
from onebit.scoring.worker import ERROR_SCHEMA, Scored

PARTS = [Part("files", 2, {}, "aa"), Part("files", 1, {}, "bb")]
MODEL = {"model": "abc", "options": {"top": 5, "columns": ("a", "b")}}


def content(rows, schema=None):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    return file.getvalue()


ALL = Scored(content([{"id": "a"}, {"id": "b"}]), b"", 2, 0)
HALF = Scored(content([{"id": "a"}]), content([{"id": "b", "path": "p", "reason": "why"}], ERROR_SCHEMA), 1, 1)


def test_a_folder_is_taken_up(tmp_path):
    out = tmp_path / "deep" / "out"
    with open_folder(out, MODEL, PARTS) as folder:
        assert folder.missing == [0, 1]
        folder.write(0, HALF)
        (out / ".part-00001.parquet.x.part").write_bytes(b"begun")
        (out / "_errors" / ".part-00001.parquet.x.part").write_bytes(b"begun")
    with open_folder(out, MODEL, PARTS) as folder:
        assert folder.missing == [1]
        assert folder.counts() == (1, 1)
        assert folder.first_error() == "b: why"
    assert sorted(path.name for path in out.rglob("*")) == [
        "_errors",
        "_manifest.json",
        "part-00000.parquet",
        "part-00000.parquet",
    ]


def test_errors_without_their_scores_are_of_a_part_that_is_not_done(tmp_path):
    with open_folder(tmp_path, MODEL, PARTS) as folder:
        folder.write(0, HALF)
        (tmp_path / "part-00000.parquet").unlink()  # as if killed between the two files
    with open_folder(tmp_path, MODEL, PARTS) as folder:
        assert folder.missing == [0, 1]
        folder.write(0, ALL)
        assert folder.counts() == (2, 0)
        assert not list(folder.errors.iterdir())


def test_overwrite_begins_anew(tmp_path):
    with open_folder(tmp_path, MODEL, PARTS) as folder:
        folder.write(0, HALF)
    with open_folder(tmp_path, {**MODEL, "model": "other"}, PARTS, overwrite=True) as folder:
        assert folder.missing == [0, 1]
        assert not folder.errors.exists()


def refuses(message, path, model=MODEL, parts=PARTS, **keys):
    with pytest.raises(DataError, match=message), open_folder(path, model, parts, **keys):
        pass


def test_refusals(tmp_path):
    out = tmp_path / "out"
    with open_folder(out, MODEL, PARTS) as folder:
        refuses("another run is writing to it", out)
        with pytest.raises(OnebitError, match="part 1 returned 2 of 1 records"):
            folder.write(1, ALL)
    refuses("was started with another model: use --overwrite", out, {**MODEL, "model": "x"})
    refuses(
        "was started with top=5, not 3: use --overwrite", out, {**MODEL, "options": {"top": 3, "columns": ["a", "b"]}}
    )
    refuses("was started with other data, or the data have changed", out, parts=PARTS[:1])
    (out / "part-00000.parquet").write_bytes(b"damaged")
    with (
        open_folder(out, MODEL, PARTS) as folder,
        pytest.raises(DataError, match="is damaged: remove it and run again"),
    ):
        folder.counts()
    (out / "_manifest.json").write_text("{")
    refuses("_manifest.json] is damaged", out)
    (tmp_path / "file").write_text("")
    refuses("is a file: give a folder", tmp_path / "file")
    for keys in ({}, {"overwrite": True}):
        refuses("contains other files and no scores", tmp_path, **keys)
    assert (tmp_path / "file").exists()
