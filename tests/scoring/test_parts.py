"""Parts contain every record once, and are the same for the same data. Test every refusal of data and columns."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit.errors import DataError
from onebit.scoring.columns import find_columns
from onebit.scoring.parts import Part, _ranges, plan
from onebit.scoring.records import read_part


def records_of(planned):
    return [record for part in planned.parts for chunk in read_part(part, planned.columns) for record in chunk.records]


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(1, 20))
def test_row_groups_are_divided_without_rest(groups, size):
    found = []
    for chosen, skip, rows in _ranges(groups, size):
        start = sum(groups[: chosen[0]]) + skip
        assert 0 < rows <= sum(groups[i] for i in chosen) - skip
        found += range(start, start + rows)
    assert found == list(range(sum(groups)))


@pytest.mark.parametrize("ending", ["", "\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, None])
def test_every_line_once(tmp_path, monkeypatch, size, ending):
    monkeypatch.setattr("onebit.scoring.parts._READ_BYTES", 5)  # lines lie across what is read at once
    lines = ["a", "", "a long line", "é", "x", "y", "zz"]
    (tmp_path / "a.txt").write_text("\n".join(lines) + ending)
    (tmp_path / "empty.txt").write_text("")
    planned = plan("text", [tmp_path], lines=True, part_records=size)
    found = records_of(planned)
    assert [record.content.decode() for record in found] == lines
    assert [record.id for record in found] == [f"a.txt:{i + 1}" for i in range(7)]
    assert planned.records == 7


@pytest.mark.parametrize("size", [1, 3, 32, None])
def test_every_row_once(tmp_path, size):
    for name, rows in (("a", 100), ("b", 0), ("c", 37)):
        pq.write_table(
            pa.table({"text": [f"{name}{i}" for i in range(rows)]}), tmp_path / f"{name}.parquet", row_group_size=40
        )
    found = records_of(plan("text", [tmp_path], part_records=size))
    assert [record.content for record in found] == [f"a{i}" for i in range(100)] + [f"c{i}" for i in range(37)]
    assert len({record.id for record in found}) == 137


def test_the_same_data_give_the_same_parts_wherever_they_lie(pictures, tmp_path):
    first = plan("image", [pictures], part_records=4)
    assert first == plan("image", [pictures], part_records=4)
    moved = tmp_path / "moved"
    pictures.rename(moved)
    try:
        again = plan("image", [moved], part_records=4)
        assert [part.digest for part in again.parts] == [part.digest for part in first.parts]
        changed = moved / "part2" / "02.PNG"
        before = changed.stat()
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        other = plan("image", [moved], part_records=4)
        assert sum(a.digest != b.digest for a, b in zip(other.parts, first.parts, strict=True)) == 1
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        moved.rename(pictures)
    left = "1 hidden file or folder, the first part1/.hidden.png and 1 other file, the first notes.txt"
    assert first.notes == [f"{pictures}: left out {left}"]
    assert Part.from_json(first.parts[0].to_json()) == first.parts[0]


def test_data_given_twice_are_there_once(pictures):
    some = sorted((pictures / "part0").iterdir())[0]
    found = plan("image", [pictures / "part0", some, pictures / "part0"])
    assert found.records == len(list((pictures / "part0").iterdir()))


@pytest.mark.parametrize("kind", ["image", "text"])
def test_hidden_folders_are_left_out_and_said(tmp_path, kind):
    for name in ("a", "a/.ipynb_checkpoints", "@eaDir", "__MACOSX"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = plan(kind, [tmp_path, tmp_path])
    assert [Path(record.path).relative_to(tmp_path).as_posix() for record in records_of(found)] == ["a/1.png"]
    assert found.notes == [f"{tmp_path}, {tmp_path}: left out 3 hidden files or folders, the first {tmp_path}/@eaDir"]


def test_linked_folders_are_read(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "1.png").write_bytes(b"x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "there")
    assert [record.id for record in records_of(plan("image", [tmp_path / "data"]))] == ["link/1.png"]


def test_a_file_is_taken_whatever_its_ending(tmp_path):
    (tmp_path / "photo").write_bytes(b"x")
    assert plan("image", [tmp_path / "photo"]).records == 1


def test_scores_of_a_run_are_no_data(tmp_path):
    (tmp_path / "_errors").mkdir()
    for path in (tmp_path / "a.parquet", tmp_path / "_errors" / "a.parquet"):
        pq.write_table(pa.table({"text": ["a"]}), path)
    assert plan("text", [tmp_path]).records == 1


def refuses(message, kind, data, **keys):
    with pytest.raises(DataError) as raised:
        plan(kind, data, **keys)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_refusals(pictures, tmp_path):
    table, other, odd = (tmp_path / f"{name}.parquet" for name in ("a", "b", "c"))
    pq.write_table(pa.table({"caption": ["a"], "title": ["b"], "label": [1]}), table)
    pq.write_table(pa.table({"caption": [b"a"]}), other)
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), odd)
    (tmp_path / "empty").mkdir()
    refuses("no such file or folder", "image", [tmp_path / "none"])
    refuses("contains no images: images end in", "image", [tmp_path / "empty"])
    refuses("contains no text files", "text", [tmp_path / "empty"])
    refuses("--column and --keep apply to Parquet files", "image", [pictures], column="a")
    refuses("--column and --keep apply to Parquet files", "image", [pictures], keep=["a"])
    refuses("--lines applies to text files", "image", [pictures], lines=True)
    refuses("--lines applies to text files", "text", [table], lines=True)
    refuses("is given together with Parquet files", "text", [table, pictures / "notes.txt"])
    refuses("has no column 'text' with text (a string): it has caption, title, label; name one", "text", [table])
    refuses("has no column 'image' or 'bytes' or 'path' with encoded images", "image", [table])
    refuses("has no column 'none' of that name alone", "text", [table], column="none")
    refuses("has no column 'none' of that name alone", "text", [table], column="title", keep=["none"])
    refuses("has no column 'text' of that name alone", "text", [odd], column="text")
    refuses("column 'label' is int64: needs text (a string)", "text", [table], column="label")
    refuses("column 'label' is int64: needs encoded images", "image", [table], column="label")
    refuses("column 'caption' is binary: needs text", "text", [table, other], column="caption")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1" * 10)
    refuses("is not a Parquet file, or is damaged", "text", [tmp_path / "damaged.parquet"])
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    refuses("has no records: its Parquet files are empty", "text", [tmp_path / "none.parquet"])
    (tmp_path / "empty" / "a.txt").write_text("")
    refuses("has no records: its text files are empty", "text", [tmp_path / "empty"], lines=True)


def test_tables_of_other_types_do_not_go_together(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "id": ["1"]}), tmp_path / "b.parquet")
    refuses("has other columns or types than the files before it", "text", [tmp_path])


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("image", {"image": pa.binary(), "path": pa.string()}, ("image", "bytes")),
        ("image", {"image": pa.string(), "other": pa.binary()}, ("image", "path")),
        ("image", {"image": pa.int64(), "bytes": pa.large_binary()}, ("bytes", "bytes")),
        (
            "image",
            {"img": pa.struct([("bytes", pa.binary()), ("path", pa.string())]), "label": pa.int64()},
            ("img", "struct"),
        ),
        ("image", {"path": pa.large_string(), "caption": pa.string()}, ("path", "path")),
        ("text", {"text": pa.large_string(), "title": pa.string()}, ("text", "text")),
        ("text", {"id": pa.string(), "content": pa.dictionary(pa.int32(), pa.string())}, ("content", "text")),
    ],
)
def test_columns_are_found_by_name_and_type(tmp_path, kind, fields, expected):
    columns = find_columns(pa.schema(list(fields.items())), tmp_path, kind, None, [])
    assert (columns.content, columns.type) == expected
