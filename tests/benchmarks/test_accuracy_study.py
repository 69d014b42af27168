"""The rows of benchmarks/accuracy_study.py are recipes, and a small study of its kind is trained, measured and drawn."""

import json
import math
import sys
from pathlib import Path

import pytest

from onebit.training.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import accuracy_study as benchmark


@pytest.mark.parametrize("name", benchmark.JUDGED)
def test_every_row_is_a_recipe_and_needs_only_rows_before_it(name):
    study = benchmark.read_study(name)
    known = []
    folders = {benchmark.folder(row, 0) for row in study["rows"]}
    assert len(folders) == len(study["rows"])
    assert set(study["references"].values()) <= set(study["rows"])
    for row, keys in study["rows"].items():
        keys = study["keys"] | keys
        recipe = load_recipe(keys.pop("recipe", study["recipe"])).override(keys, row)
        assert recipe.model.binary or row.startswith("float")
        needed = [str(v).removeprefix("row:") for v in keys.values() if str(v).startswith("row:")]
        assert set(needed) <= set(known)
        known.append(row)


@pytest.mark.parametrize("name", ["resnet18", "overfitting"])
def test_the_small_form_of_a_study_has_its_rows_and_keys_of_its_own(name):
    study = benchmark.read_study(name)
    small = benchmark.small_form(study)
    assert list(small["rows"]) == list(study["rows"])
    assert set(study["small"]) - {benchmark.ALL_ROWS} <= set(study["rows"])
    for row, keys in small["rows"].items():
        keys = study["keys"] | keys
        recipe = load_recipe(keys.pop("recipe", study["recipe"])).override(keys, row)
        assert recipe.data.train_limit == study["small"][benchmark.ALL_ROWS]["train_limit"]
        assert recipe.schedule.first_stage_epochs in (0, recipe.schedule.epochs // 2)
    with pytest.raises(SystemExit, match="no small form"):
        benchmark.small_form(benchmark.read_study("images"))


def test_the_study_of_overfitting_shows_training_and_validation(tmp_path):
    runs = [
        {"test_accuracy": 0.5, "file_bytes": 9, "seconds": 1.0, "curve": [0.3, 0.4], "training_accuracy": [0.5, 0.9]}
    ]
    printed = benchmark.table("overfitting", {}, {"paper": runs})
    assert "| paper | 1 | 50.0 | 90.0 | 40.0 | +50.0 | 9 | 1 |" in printed
    titles, _, row = printed.splitlines()
    assert titles.count("|") == row.count("|")
    benchmark.draw("overfitting", {"paper": runs}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_a_study_is_trained_measured_and_skipped_when_done(tmp_path, monkeypatch, capsys):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    text = tmp_path / "song.txt"
    text.write_text("".join(" ".join(words[i % 10 :] + words[: i % 10]) + "\n" for i in range(600)))
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    sizes = {"vocabulary": 290, "context": 16, "blocks": 1, "features": 16, "heads": 2, "head": [16]}
    study = {
        "recipe": "paper-tiny",
        "keys": {**sizes, "epochs": 2, "epoch_steps": 8, "batch_size": 4, "warmup": 2},
        "references": {"the twin's": "float twin"},
        "rows": {
            "float twin": {"binary": False},
            "taught, at 1e-2": {"learning_rate": 0.01, "teacher": "row:float twin"},
        },
    }
    monkeypatch.setattr(benchmark, "read_study", lambda name: study)
    command = [
        "study",
        "text",
        "--data",
        str(text),
        "--out",
        str(tmp_path / "out"),
        "--seeds",
        "0",
        "--validation",
        str(text),
    ]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "text.json").read_text())
    assert list(rows) == list(study["rows"])
    twin, taught = (rows[row][0] for row in rows)
    assert taught["file_bytes"] < twin["file_bytes"]
    ratio = math.exp(taught["validation_loss"] - twin["validation_loss"])
    assert f"| taught, at 1e-2 | 1 | {taught['validation_bits_per_byte']:.3f} |" in printed
    difference = taught["validation_bits_per_byte"] - twin["validation_bits_per_byte"]
    assert f"| {difference:+.3f} | {ratio:.3f} | {taught['file_bytes']:,} |" in printed
    assert "2 runs ended, 0 diverged" in printed
    assert (tmp_path / "out" / "text.png").stat().st_size > 10_000
    log = (tmp_path / "out" / "text" / "taught-at-1e-2-seed0.log").read_text()
    benchmark.main()
    assert (tmp_path / "out" / "text" / "taught-at-1e-2-seed0.log").read_text() == log
    known = tmp_path / "known.json"
    elsewhere = {"float twin": [rows["float twin"][0] | {"seed": 1, "validation_bits_per_byte": 9.0}]}
    known.write_text(json.dumps(elsewhere))
    monkeypatch.setattr(
        sys, "argv", [*command, "--seeds", "0", "1", "--rows", "^taught", "--table-only", "--known", str(known)]
    )
    benchmark.main()
    printed = capsys.readouterr().out
    assert "| float twin | 2 |" in printed
    assert "3 runs ended, 0 diverged" in printed


def test_rows_are_chosen_with_those_that_they_start_from():
    study = {"rows": {"a": {}, "b": {"teacher": "row:a"}, "c": {}, "best b": {"warm_start": "row:b"}}}
    assert benchmark.chosen_rows(study, "") == ["a", "b", "c", "best b"]
    assert benchmark.chosen_rows(study, "^b$") == ["a", "b"]
    assert benchmark.chosen_rows(study, "c") == ["c"]
    # What b starts from is needed too.
    assert benchmark.chosen_rows(study, "best") == ["a", "b", "best b"]
