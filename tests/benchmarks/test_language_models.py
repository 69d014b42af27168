"""The own work of benchmarks/language_models.py: files of random weights that are imported and run, and its tables. No other engine is needed."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import language_model_engines as engines
import language_model_files as files
from language_models import table

from onebit.importing import import_model
from onebit.importing.gguf import read_gguf

QWEN3 = files.Sizes("qwen3", 1, 256, 512, 4, 2, 64, 384)
BITNET = files.Sizes("bitnet", 1, 256, 512, 4, 2, 64, 384)


@pytest.mark.parametrize(
    ("sizes", "kind", "head"),
    [*((QWEN3, kind, kind) for kind in ("Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "Q8_0")), (BITNET, "I2_S", "Q8_0")],
)
def test_a_file_is_imported_and_writes_tokens(tmp_path, sizes, kind, head):
    path = tmp_path / "m.gguf"
    files.write_model(path, sizes, kind, head, "bitnet-b1.58" if sizes is BITNET else None)
    matrices = [tensor for tensor in read_gguf(path).tensors.values() if len(tensor.shape) == 2]
    assert {tensor.coding.name for tensor in matrices} == {kind, head}
    assert len(matrices) == len(list(files.matrices(sizes)))
    import_model(path, tmp_path / "m.onebit")
    feed, _ = engines.onebit(str(tmp_path / "m.onebit"), 1)
    assert np.isfinite(feed([1, 2, 3], 0)).all()
    assert all(0 < ms < 1e5 for ms, _ in engines.decode(feed))


def test_a_token_reads_every_matrix_once():
    sizes = files.SHAPES["bonsai-1.7b"]
    weights = sum(rows * columns for _, rows, columns in files.matrices(sizes))
    assert files.bytes_of_a_token(sizes, "Q1_0", "Q1_0") == weights * 18 // 128


def test_table_compares_with_the_first_engine():
    times = {
        "a": {"decode": [(4.0, 2.0)], "prompt": [(40.0, 20.0)]},
        "b": {"decode": [(6.0, 5.0)], "prompt": [(50.0, 30.0)]},
    }
    one, two = (table(times, {"a": 10**7, "b": 10**7}, 10.0, threads).splitlines()[-1] for threads in (1, 2))
    assert one == "| b | 6.00 | 5.00 | 2.50 | 20% | 50 | 30 | 1.50 |"
    assert two == "| b | 6.00 | 5.00 | 1.50 | 17% | 50 | 30 | 1.25 |"
