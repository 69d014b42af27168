"""The rows of benchmarks/decoder_study.py are recipes at every size, and what has ended is tabled and drawn."""

import json
import sys
from pathlib import Path

import pytest

from onebit.training.jobs.text import decoder_sizes_of
from onebit.training.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import accuracy_study
import decoder_study as benchmark
from accuracy_study import chosen_rows, folder

SIZES = list(benchmark.read_study()["sizes"])


def recipes(size):
    study = benchmark.read_study(size)
    base = load_recipe(study["recipe"])
    return study, {row: base.override(study["keys"] | keys, row) for row, keys in study["rows"].items()}


@pytest.mark.parametrize("size", SIZES)
def test_every_row_is_a_recipe_and_needs_only_rows_before_it(size):
    study, made = recipes(size)
    assert len({folder(row, 0) for row in made}) == len(made)
    assert set(study["references"].values()) <= set(made)
    known = []
    for row, recipe in made.items():
        assert recipe.model.binary == (not row.startswith("float"))
        assert (recipe.teacher.run or "row:float").removeprefix("row:") in [*known, "float"]
        known.append(row)
    for names in study["curves"].values():
        assert {f"{kind} {name}".strip() for name in names for kind in ("float", "best")} <= set(made)


@pytest.mark.parametrize("size", SIZES)
def test_rates_lengths_and_shapes_are_those_of_the_size(size):
    _, made = recipes(size)
    assert made["best rate 2"].optimizer.learning_rate == 2 * made["best"].optimizer.learning_rate
    assert made["best twice as long"].schedule.epochs == 2 * made["best"].schedule.epochs
    assert decoder_sizes_of(made["deep"])["blocks"] > decoder_sizes_of(made["best"])["blocks"]
    assert made["best"].scheme.name == "BinaryWeightNetwork"  # the form's
    assert made["4 bits same shape"].scheme.made.weights.bits == 4


def test_only_rows_that_exist_are_chosen(capsys):
    parser = benchmark.argparse.ArgumentParser()
    rows = {"best": {}, "best rate 2": {}, "float": {}}
    assert chosen_rows({"rows": rows}, benchmark.pattern_of("best, float", rows, parser)) == ["best", "float"]
    assert chosen_rows({"rows": rows}, benchmark.pattern_of("", rows, parser)) == list(rows)
    with pytest.raises(SystemExit):
        benchmark.pattern_of("worst", rows, parser)
    assert "there is no row 'worst': use some of best, best rate 2, float" in capsys.readouterr().err


def test_rows_are_trained_and_what_has_ended_is_tabled_and_drawn(tmp_path, monkeypatch, capsys):
    def run(bits, tokens, parameters):
        return {
            "seed": 0, "validation_bits_per_byte": bits, "validation_loss": bits, "file_bytes": 100, "seconds": 1.0, "curve": [3.0, bits],
            "train_tokens_seen_at_most": tokens, "parameters": parameters,
        }  # fmt: skip

    trained = []
    monkeypatch.setattr(accuracy_study, "train_run", lambda name, words, out: trained.append((name, words)))
    words = [
        "study",
        "--data",
        "a",
        "--validation",
        "b",
        "--out",
        str(tmp_path / "out"),
        "--rows",
        "KL alone",
        "--jobs",
        "2",
    ]
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()  # the row that it learns from comes with it
    assert sorted(name for name, _ in trained) == ["KL-alone-seed0", "float-seed0"]
    words = dict(trained)["KL-alone-seed0"]
    assert words[words.index("--teacher") + 1] == str(tmp_path / "out" / "tiny" / "float-seed0")
    rows = {
        "float": [run(2.0, 1000, 50)], "best": [run(2.125, 1000, 50)],
        "float twice as long": [run(1.5, 2000, 50)], "best twice as long": [run(1.75, 2000, 50)],
        "best a quarter": [run(2.5, 1000, 10)],
    }  # fmt: skip
    (tmp_path / "known.json").write_text(json.dumps(rows))
    words = ["study", "--data", "a", "--validation", "b", "--out", str(tmp_path / "out"), "--table-only", "--known"]
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "known.json")])
    benchmark.main()
    printed = capsys.readouterr().out
    assert "| best | 1 | 2.125 | +0.125 | +0.000 | 1.133 | 1.000 | 100 | 1 |" in printed
    assert "gap over tokens: 1,000 +0.125, 2,000 +0.250" in printed
    assert "gap over parameters: 50 +0.125\n" in printed  # a quarter has no float
    assert "5 runs ended, 0 diverged" in printed
    assert (tmp_path / "out" / "tiny-gaps.png").stat().st_size > 5_000
    assert list(json.loads((tmp_path / "out" / "tiny.json").read_text())) == list(rows)
