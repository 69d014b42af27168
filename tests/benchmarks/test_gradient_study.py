"""The rows of benchmarks/gradient_study.py are recipes, its toy knows the best bits, and a small study is trained, packed and verified once."""

import json
import sys
from pathlib import Path

import pytest
import torch

from onebit.training.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gradient_study as benchmark


@pytest.mark.parametrize("name", benchmark.KIND)
def test_every_row_is_a_recipe_of_its_own(name):
    study = benchmark.read_study(f"gradients-{name}")
    assert set(study["references"].values()) <= set(study["rows"])
    made = [
        load_recipe(study["recipe"]).override(study["keys"] | keys, row).to_dict()
        for row, keys in study["rows"].items()
    ]
    assert all(a != b for index, a in enumerate(made) for b in made[:index])
    methods = {str(keys) for keys in study["rows"].values()}
    assert {"{'cage': 10.0}", "{'learned_scales': True}", "{'estimator': 'ReSTE'}"} <= methods


@pytest.mark.parametrize("row", benchmark.TOY_ROWS)
def test_no_bits_of_the_toy_are_better_than_the_best(row, monkeypatch):
    monkeypatch.setattr(benchmark, "STEPS", 12)
    monkeypatch.setattr(benchmark, "WEIGHTS", 6)
    ended, best = benchmark.toy_losses(benchmark.TOY_ROWS[row], 0)
    assert ended.shape == best.shape == (benchmark.PROBLEMS,)
    assert bool((ended >= best * (1 - 1e-5)).all())
    again, _ = benchmark.toy_losses(benchmark.TOY_ROWS[row], 0)
    assert torch.equal(ended, again)


def test_the_toys_table(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark, "STEPS", 3)
    monkeypatch.setattr(sys, "argv", ["study", "toy", "--out", str(tmp_path)])
    benchmark.main()
    first = capsys.readouterr().out
    assert all(f"| {row} | 2 |" in first for row in benchmark.TOY_ROWS)
    monkeypatch.setattr(sys, "argv", ["study", "toy", "--out", str(tmp_path), "--table-only"])
    benchmark.main()
    assert capsys.readouterr().out == first


def test_a_study_is_trained_packed_verified_and_skipped_when_done(tmp_path, monkeypatch, capsys):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    text = tmp_path / "song.txt"
    text.write_text("".join(" ".join(words[i % 10 :] + words[: i % 10]) + "\n" for i in range(300)))
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    sizes = {"vocabulary": 290, "context": 16, "blocks": 1, "features": 16, "heads": 2, "head": [16], "form": "best"}
    study = {
        "recipe": "paper-tiny",
        "keys": {**sizes, "epochs": 2, "epoch_steps": 6, "batch_size": 4, "warmup": 2},
        "references": {"plain's": "straight-through"},
        "rows": {
            "straight-through": {},
            "all at once": {"estimator": "BinaryRelax", "cage": 1.0, "learned_scales": True},
        },
    }
    monkeypatch.setattr(benchmark, "read_study", lambda name: study)
    command = ["study", "text", "--data", str(text), "--validation", str(text), "--out", str(tmp_path), "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    printed = capsys.readouterr().out
    assert "2 runs ended, all finite, 2 packed files equal" in printed
    rows = json.loads((tmp_path / "text.json").read_text())
    plain, other = (rows[row][0]["validation_bits_per_byte"] for row in study["rows"])
    assert plain != other
    assert f"| all at once | 1 | {other:.3f} | {other - plain:+.3f} |" in printed
    before = (tmp_path / "text" / "all-at-once-seed3.json").stat().st_mtime_ns
    monkeypatch.setattr(benchmark, "train", None)  # what is done is not trained again
    benchmark.main()
    assert (tmp_path / "text" / "all-at-once-seed3.json").stat().st_mtime_ns == before
    # Runs from elsewhere are added by --known.
    (tmp_path / "known.json").write_text(json.dumps({"straight-through": [rows["straight-through"][0] | {"seed": 4}]}))
    monkeypatch.setattr(sys, "argv", [*command, "--table-only", "--known", str(tmp_path / "known.json")])
    benchmark.main()
    assert "| straight-through | 2 |" in capsys.readouterr().out
