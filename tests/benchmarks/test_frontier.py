"""The frontier picture: which networks no other beats, what counts as which kind, and the command."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import frontier as benchmark
from frontier import Network


def test_a_network_is_on_the_line_if_none_as_small_is_as_good():
    found = [
        Network(*row, 1) for row in (("a", 10, 5.0), ("b", 10, 6.0), ("c", 20, 6.0), ("d", 30, 7.0), ("e", 25, 1.0))
    ]
    assert [n.name for n in benchmark.frontier(found, 1)] == ["b", "d"]
    assert [n.name for n in benchmark.frontier(found, -1)] == ["a", "e"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("float, adam", "float"),
        ("1-bit weights and activations, one stage", "1-bit weights and activations"),
        ("4-bit weights and activations", "2 and 4 bits"),
        ("started from the float twin", "1-bit weights"),
        ("1-bit weights, taught by float", "1-bit weights"),
    ],
)
def test_kinds(name, kind):
    assert benchmark.kind_of(name) == kind


def test_the_picture_is_drawn_from_the_results(tmp_path, monkeypatch, capsys):
    rows = {
        "float": [{"test_accuracy": 0.5, "file_bytes": 1000}, {"test_accuracy": 0.7, "file_bytes": 1000}],
        "1-bit weights": [{"test_accuracy": 0.55, "file_bytes": 100}],
        "best, twice as long": [{"test_accuracy": 0.9, "file_bytes": 100}],
    }
    (tmp_path / "images.json").write_text(json.dumps(rows))
    command = ["frontier", "--out", str(tmp_path / "f.png"), "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    printed = capsys.readouterr().out
    assert "| 100 | 1-bit weights | 1 | 55.0 % |" in printed and "| 1,000 | float | 2 | 60.0 % |" in printed
    assert "twice as long" not in printed
    assert (tmp_path / "f.png").stat().st_size > 5_000
    monkeypatch.setattr(sys, "argv", [*command[:-1], str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="no results in .*accuracy_study.py"):
        benchmark.main()
