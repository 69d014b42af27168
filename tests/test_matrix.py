"""The page of tested platforms is made from its rows."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import matrix


def test_the_page_is_that_of_its_rows():
    rows = json.loads(matrix.RECORD.read_text())
    assert matrix.PAGE.read_text() == matrix.page(rows)


def test_a_row_takes_the_place_of_its_older_self(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "RECORD", tmp_path / "rows.json")
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "page.md")
    row = dict.fromkeys(matrix.KEY, "x") | {
        "passed": False,
        "result": "2 failed | 3",
        "seconds": 4,
        "date": "2026",
        "commit": "abc",
    }
    matrix.record(row)
    matrix.record(row | {"machine": "other", "passed": True, "result": "5 passed"})
    assert "**failed**: 2 failed \\| 3" in matrix.PAGE.read_text()
    matrix.record(row | {"passed": True, "result": "6 passed"})
    assert "failed" not in matrix.PAGE.read_text()
    assert [kept["result"] for kept in json.loads(matrix.RECORD.read_text())] == ["5 passed", "6 passed"]
