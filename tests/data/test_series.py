"""Windows of recordings are divided without a row that two parts share; what cannot be divided is said."""

import numpy as np
import pytest

from onebit.data.series import Cut, load_series
from onebit.errors import DataError

CLASSES = Cut(8, 4, True)


def counting(path, rows, start=0, **columns):
    """A file whose column x counts, so that rows can be told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["x," + ",".join(columns) if columns else "x"]
    lines += [",".join([str(start + i), *(str(values[i]) for values in columns.values())]) for i in range(rows)]
    path.write_text("\n".join(lines) + "\n")


def rows_of(windows):
    return set(np.unique(windows.numbers))


def test_files_of_folders_stay_whole(tmp_path):
    for i in range(10):
        for k, label in enumerate(("a", "b")):
            counting(tmp_path / label / f"{i}.csv", 40, 1000 * i + 500 * k)
    parts = load_series(str(tmp_path), CLASSES, None, None, 0.2, 3)
    sets = (parts.train, parts.validation, parts.test)
    assert [len(set(part.pieces)) for part in sets] == [12, 4, 4]
    assert all(set(part.said) == {"a", "b"} for part in sets)
    assert not parts.own_test
    for i, first in enumerate(sets):
        assert all(not rows_of(first) & rows_of(second) for second in sets[i + 1 :])
    again = load_series(str(tmp_path), CLASSES, None, None, 0.2, 3)
    np.testing.assert_array_equal(parts.test.numbers, again.test.numbers)


def test_one_long_file_is_cut_into_pieces_first(tmp_path):
    kinds = ["rest"] * 400 + ["walk"] * 400
    counting(tmp_path / "all.csv", 800, kind=kinds)
    parts = load_series(str(tmp_path / "all.csv"), CLASSES, None, "kind", 0.2, 0)
    sets = (parts.train, parts.validation, parts.test)
    assert all(set(part.said) == {"rest", "walk"} for part in sets)
    assert not rows_of(parts.train) & rows_of(parts.test)
    for part in sets:
        for window, said in zip(part.numbers, part.said, strict=True):
            assert {kinds[int(x)] for x in window[:, 0]} == {said}  # none over a change of class


def test_numbers_are_those_of_a_windows_last_row(tmp_path):
    counting(tmp_path / "all.csv", 400, speed=[i / 2 for i in range(400)])
    parts = load_series(str(tmp_path / "all.csv"), Cut(8, 4, False), None, "speed", 0.0, 0)
    assert parts.validation is None
    for part in (parts.train, parts.test):
        np.testing.assert_allclose(part.values, part.numbers[:, -1, 0] / 2)


def test_train_and_test_folders_are_kept(tmp_path):
    for part, start in (("train", 0), ("test", 5000)):
        for k, label in enumerate(("a", "b")):
            counting(tmp_path / part / label / "0.csv", 40, start + 100 * k)
    parts = load_series(str(tmp_path), CLASSES, None, None, 0.0, 0)
    assert parts.own_test
    assert min(rows_of(parts.test)) >= 5000 > max(rows_of(parts.train))


def test_a_file_shorter_than_a_window_is_left_out_with_a_note(tmp_path):
    for i in range(6):
        for label in ("a", "b"):
            counting(tmp_path / label / f"{i}.csv", 5 if (i, label) == (0, "a") else 40)
    parts = load_series(str(tmp_path), CLASSES, None, None, 0.0, 0)
    assert "1 of 12 files give no window of 8 rows and are left out" in parts.train.notes[0]


@pytest.mark.parametrize(
    ("files", "target", "cut", "words"),
    [
        ({}, None, CLASSES, "has no file that ends in .csv"),
        ({"x.csv": {}}, None, CLASSES, "does not say what its rows are: name the column of the classes with --target"),
        ({"a/x.csv": {}}, None, Cut(8, 4, False), "name the column of the numbers with --target"),
        ({"a/x.csv": {}}, None, CLASSES, "has one class alone, 'a': needs two or more"),
        ({"a/x.csv": {}, "b/x.csv": {}}, None, Cut(50, 4, True), "has no window of 50 rows, at most 40 rows a file"),
        ({"a/x.csv": {}, "b/x.csv": {}}, None, Cut(30, 4, True), "are too few to set a part aside"),
        ({"x.csv": {"v": ["a"] * 40}}, "v", Cut(8, 4, False), "its target 'a' is not a finite number"),
    ],
)
def test_what_cannot_be_divided_is_said(tmp_path, files, target, cut, words):
    for name, columns in files.items():
        counting(tmp_path / name, 40, **columns)
    with pytest.raises(DataError, match=words):
        load_series(str(tmp_path), cut, None, target, 0.0, 0)


@pytest.mark.parametrize(
    ("columns", "target", "words"),
    [(["w"], None, "has no column 'w'"), (None, "speed", "has no target 'speed' for this task")],
)
def test_the_data_that_are_made_on_the_spot_have_their_own_columns(columns, target, words):
    with pytest.raises(DataError, match=words):
        load_series("vibration", CLASSES, columns, target, 0.0, 0)


def test_data_that_are_not_there():
    with pytest.raises(DataError, match="is not there: give a CSV file, a folder of them, or vibration"):
        load_series("nowhere", CLASSES, None, None, 0.0, 0)
