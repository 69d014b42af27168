"""Damaged GGUF files: whatever a byte says, the reader reads or raises its own error, soon and within little memory.

`python tests/importing/test_gguf_fuzz.py 100000` takes more of them.
"""

import random
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from gguf_files import floats, gguf, text
from random_models import gguf_metadata, gguf_tensors

from onebit.errors import OnebitError
from onebit.importing import import_model
from onebit.importing.gguf import read_gguf

SEEDS = (
    gguf(
        {"general.architecture": "llama", "n": 3, "tokens": ["a", "b"], "scores": [0.5, 1.0], "nested": [[1], [2, 3]]},
        {"a": floats(np.arange(8)), "b": ((2, 128), 41, bytes(36)), "c": ((1, 256), 34, bytes(54))},
    ),
    gguf({"general.alignment": 64}, {"q": ((4, 128), 42, bytes(144)), "r": ((4, 128), 42, bytes(144))}, 2, 64),
)
# A whole model. What is changed lies in its head, before the weights.
MODEL = gguf(gguf_metadata("qwen3"), gguf_tensors("qwen3"))
HEAD_BYTES = MODEL.rindex(b".weight") + 64
NUMBERS = (0, 1, 7, 8, 9, 41, 42, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62, 1 << 63, (1 << 64) - 1)


def mutated(content, chance):
    """A file with one to four places changed: bits, numbers, cuts, repeats, parts of another file."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        way = chance.randrange(6)
        if way == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            size = chance.choice((1, 2, 4, 8))
            data[at : at + size] = (chance.choice(NUMBERS) & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif way == 2:
            del data[at:]
        elif way == 3:
            data[at:at] = data[at : at + chance.randrange(64)]
        elif way == 4:
            del data[at : at + chance.randrange(64)]
        else:
            data[at:at] = text(bytes(chance.randrange(256) for _ in range(chance.randrange(16))))
        if not data:
            break
    return bytes(data)


def run(folder, count, seed=0):
    """Read `count` damaged files; returns how many were still readable, and the longest time of the processor in seconds."""
    chance, path = random.Random(seed), folder / "a.gguf"
    read, longest = 0, 0.0
    for _ in range(count):
        path.write_bytes(mutated(chance.choice(SEEDS), chance))
        start = time.process_time()
        try:
            with np.errstate(all="ignore"):
                file = read_gguf(path)
                for tensor in file.tensors.values():
                    tensor.floats()
            file.close()
            read += 1
        except OnebitError as error:
            assert "\n" not in str(error)
        longest = max(longest, time.process_time() - start)
    return read, longest


def import_damaged(folder, count, seed=0):
    """Import `count` models with a damaged head; returns how many could still be imported."""
    chance, path, read = random.Random(seed), folder / "m.gguf", 0
    for _ in range(count):
        path.write_bytes(mutated(MODEL[:HEAD_BYTES], chance) + MODEL[HEAD_BYTES:])
        try:
            with np.errstate(all="ignore"):
                import_model(path, wide="float32", write_file=False)
            read += 1
        except OnebitError as error:
            assert "\n" not in str(error)
    return read


def test_damaged_models_raise_nothing_else(tmp_path):
    assert 0 < import_damaged(tmp_path, 60) < 60


def test_damaged_files_raise_nothing_else(tmp_path):
    tracemalloc.start()
    try:
        read, longest = run(tmp_path, 1500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Some changes are of no consequence; most are seen.
    assert 0 < read < 1000 and longest < 2 and peak < 64 << 20


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        for seed in range(max(1, int(sys.argv[1]) // 1000)):
            print(seed, *run(Path(name), 1000, seed), import_damaged(Path(name), 100, seed), flush=True)
