"""All competitors in benchmarks/binary_activations.py compute the same layer, and its table lists absent ones. Only PyTorch is needed."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import binary_activations as benchmark

SMALL = (benchmark.Layer("3x3", 3, 32, 6), benchmark.Layer("dense", 1, 70, 1))


@pytest.mark.parametrize("layer", SMALL, ids=lambda layer: layer.name)
def test_the_layers_are_the_same(layer, tmp_path):
    names = [benchmark.OURS, "onebit, int8 activations", "PyTorch float32"]
    for name in names:
        job, output, about = benchmark.COMPETITORS[name](layer, 1)
        job()
        y = output()
        assert y.shape == (layer.channels, layer.side, layer.side)
        assert about
        np.save(tmp_path / f"{list(benchmark.COMPETITORS).index(name)}.npy", y)
    found = benchmark.outputs(tmp_path, layer, names)
    assert found == dict(zip(names, ("equal", "other activations", ""), strict=True))


def test_outputs_that_differ_are_told_apart(tmp_path):
    layer = SMALL[0]
    place = list(benchmark.COMPETITORS).index
    expected = np.zeros((32, 6, 6), np.float32)
    edge, wrong = expected.copy(), expected.copy()
    edge[3, 0, 2] = 1
    wrong[3, 2, 2] = 1
    np.save(tmp_path / f"{place('PyTorch float32')}.npy", expected)
    np.save(tmp_path / f"{place('OpenVINO BinaryConvolution')}.npy", wrong)
    np.save(tmp_path / f"{place('Larq Compute Engine')}.npy", edge)
    names = ["PyTorch float32", "OpenVINO BinaryConvolution", "Larq Compute Engine"]
    assert list(benchmark.outputs(tmp_path, layer, names).values()) == ["", "different", "equal but at the edges"]


def test_the_table_has_ratios_and_who_is_absent():
    row = {"layer": "3x3", "threads": 1, "gmacs": 12.3, "output": "equal", "about": "so"}
    run = {
        "machine": {"cpu": "a CPU", "processors": 2, "features": ["avx2"], "system": "Linux", "python": "3", "load": [0.5]},
        "versions": {"onebit": "1"},
        "command": "python benchmarks/binary_activations.py",
        "started": "now",
        "results": [
            row | {"engine": benchmark.OURS, "ms": 0.1, "fastest_ms": 0.08},
            row | {"engine": "PyTorch float32", "ms": 0.85, "fastest_ms": 0.8},
        ],
        "absent": [{"layer": "3x3", "threads": 1, "engine": "Larq Compute Engine", "reason": "not installed"}],
    }  # fmt: skip
    text = benchmark.markdown(run)
    assert "| 3x3 | 1 | **onebit, signs** | 100.0 | 12 | 1.00 | 80.0 | 1.00 | equal |" in text
    assert "| 3x3 | 1 | PyTorch float32 | 850.0 | 12 | 8.50 | 800.0 | 10.00 | equal |" in text
    assert "- PyTorch float32: so" in text
    assert "- Larq Compute Engine, 3x3, 1 threads: not installed" in text
