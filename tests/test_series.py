"""CSV files of measurements: what is read, and one line for each thing that can be wrong with one."""

import re

import numpy as np
import pytest

from onebit.errors import DataError
from onebit.series import read_csv, windows


def written(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path / name


def test_the_columns_are_those_of_numbers(tmp_path):
    found = read_csv(written(tmp_path, "time,x,y,kind\n0,1,2,a\n1,3,4.5,b\n"), target="kind")
    assert found.columns == ("x", "y")
    np.testing.assert_array_equal(found.numbers, np.array([[1, 2], [3, 4.5]], np.float32))
    assert found.target == ("a", "b")
    assert read_csv(tmp_path / "a.csv", ["y", "time"]).numbers.tolist() == [[2, 0], [4.5, 1]]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_cells_are_divided_by_what_the_first_line_has(tmp_path, mark):
    text = "\ufeffx,y\r\n\r\n1,-2e3\r\n".replace(",", mark)
    found = read_csv(written(tmp_path, text))
    assert (found.columns, found.numbers.tolist()) == (("x", "y"), [[1, -2000]])


def test_quoted_names_may_hold_the_divider(tmp_path):
    found = read_csv(written(tmp_path, '"a, b",c\n1,2\n'))
    assert found.columns == ("a, b", "c")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty: needs a line with the names of the columns"),
        ("x,y\n", "has the names of columns but no row of numbers"),
        ("1,2\n3,4\n", "line 1 has numbers alone: needs the names of the columns there"),
        ("x,x\n1,2\n", "has two columns of the name 'x'"),
        ("x,y\n1,2\n1\n", "line 3 has 1 cells: needs 2"),
        ("x,y\n1,2\n1,2,3\n", "line 3 has 3 cells: needs 2"),
        ("x,y\n1,2\n1,warm\n", "line 3, column 'y': 'warm' is not a finite number"),
        ("x,y\n1,nan\n", "line 2, column 'y': 'nan' is not a finite number"),
        ("x,y\n1,inf\n", "line 2, column 'y': 'inf' is not a finite number"),
        ("x,y\n1,1e39\n", "line 2, column 'y': '1e39' is not a finite number"),
        ("x,y\n1,1_0\n", "line 2, column 'y': '1_0' is not a finite number"),
        ("x,y\n1,\n", "line 2, column 'y': is empty"),
        ('x,y\n"1,2\n', "is not CSV|line 3 has 1 cells|line 2 has 1 cells"),
        ("time\n1\n", "has no column of numbers to look at"),
        (b"x,y\n1,\xff\n", "is not text in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, words):
    with pytest.raises(DataError, match=words) as error:
        read_csv(written(tmp_path, text))
    assert str(error.value).startswith(f"[{tmp_path}") and "\n" not in str(error.value)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(DataError, match=re.escape("has no column 'z': it has 'x', 'y'")):
        read_csv(written(tmp_path, "x,y\n1,2\n"), ["x", "z"])
    with pytest.raises(DataError, match="has no column 'kind'"):
        read_csv(tmp_path / "a.csv", target="kind")


def test_a_row_without_a_target_is_named(tmp_path):
    with pytest.raises(DataError, match="line 3, column 'kind': is empty"):
        read_csv(written(tmp_path, "x,kind\n1,a\n2, \n"), target="kind")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_csv(tmp_path / "none.csv")


def test_windows_by_hand():
    x = np.arange(14, dtype=np.float32).reshape(7, 2)
    assert windows(x, 3, 2).tolist() == [x[0:3].tolist(), x[2:5].tolist(), x[4:7].tolist()]
    assert windows(x, 8, 1).shape == (0, 8, 2)
