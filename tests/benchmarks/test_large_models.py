"""Random models of large shapes: what is written is imported, and a process measures it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from language_model_files import SHAPES, matrices, norms
from large_models import TINY, measure, write

from onebit.importing import import_model


@pytest.mark.parametrize(("name", "millions"), [("bonsai-1.7b", 1720), ("bonsai-4b", 4022), ("bonsai-8b", 8190)])
def test_shapes_have_the_parameters_of_their_models(name, millions):
    sizes = SHAPES[name]
    count = sum(size for _, size in norms(sizes)) + sum(rows * columns for _, rows, columns in matrices(sizes))
    assert count == pytest.approx(millions * 1e6, rel=0.01)


def test_a_tiny_model_is_written_imported_and_measured(tmp_path):
    write(TINY, tmp_path / "tiny.gguf")
    report = import_model(tmp_path / "tiny.gguf", tmp_path / "tiny.onebit", trust=True)
    assert report.context == (TINY.context, TINY.context)
    found = measure(tmp_path / "tiny.onebit", 1, 20, 200, "")
    assert found["cache"] == "int8" and found["token ms at 200"][0] > 0
    assert found["after load"]["MB"] - found["before"]["MB"] < 60
