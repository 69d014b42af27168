"""benchmarks/training_speed.py steps a network and its twin in turns on the recipe's batches."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import training_speed as benchmark

from onebit.training import load_recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "rows"), [("tiny", 128), ("cifar10", 2)])
def test_a_row_tells_what_was_measured(name, rows):
    row = benchmark.measure(
        name, Namespace(batch=rows if name == "cifar10" else 1, precision="bf16", steps=3), CPU, False
    )
    assert row["binary_ms"] > 0 < row["float_ms"]
    assert 0 <= row["waits"] < 1
    if name == "tiny":
        assert row["flops"] == pytest.approx(6 * row["parameters"] * rows / row["binary_ms"] * 1e3)
    text = benchmark.table([row], 1e12)
    assert f"| {name} | {row['batch']} | no |" in text
    assert ("%" in text.splitlines()[2].split("|")[-2]) == (name == "tiny")


def test_a_step_trains_on_a_batch_of_the_recipe():
    recipe = load_recipe("cifar10").override({"batch_size": 4})
    trained = benchmark.Trained(recipe, 10, CPU, False, False)
    before = trained.model.features[0].weight.detach().clone()
    trained.step()
    assert trained.rows == 4
    assert not torch.equal(trained.model.features[0].weight, before)
