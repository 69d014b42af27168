"""The seeds of `make fuzz`, and its message if it cannot run. The fuzzer itself runs in .ci/run."""

import sys
from pathlib import Path

import pytest

from onebit.fileformat import load_model
from onebit.program import OPS

sys.path.insert(0, str(Path(__file__).parents[2] / "engine/fuzz"))

import corpus
import fuzz


def test_the_seeds_are_small_sound_files_of_all_ops(tmp_path):
    count = corpus.write(tmp_path / "seeds", 60)
    files = sorted((tmp_path / "seeds").iterdir())
    assert len(files) == count >= 60
    ops, kinds = set(), set()
    for path in files:
        assert path.stat().st_size <= corpus.MOST_BYTES
        model = load_model(path)
        ops |= {step.op for step in model.program.steps}
        kinds.add(model.task["kind"])
    assert ops == set(OPS)
    assert kinds == {"image-classification", "text-generation", "numbers"}


def test_the_dictionary_has_the_words_of_programs(tmp_path):
    corpus.write_dictionary(tmp_path / "words.dict")
    words = (tmp_path / "words.dict").read_text().splitlines()
    assert {'"bit_conv2d"', '"kernel_size"', '"quantizer"', '"data_offsets"'} <= set(words)
    assert all(word.startswith('"') and word.endswith('"') for word in words)


def test_a_machine_without_libfuzzer_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "COMPILERS", ["clang++-of-nobody"])
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--check"])
    assert fuzz.main() == 3
    assert "apt-get install clang-19 libfuzzer-19-dev" in capsys.readouterr().err


def test_limits_that_would_never_end_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--runs", "0"])
    with pytest.raises(SystemExit):
        fuzz.main()
    assert "--runs or --seconds" in capsys.readouterr().err
