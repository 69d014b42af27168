"""`onebit verify` of imported models: logits against transformers and llama.cpp, where they are installed, and what is said where they are not."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
from random_models import write_folder, write_gguf

import onebit
from onebit.cli.main import main
from onebit.importing import import_model
from onebit.source_comparison import compare_with_source


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = write_gguf(tmp_path_factory.mktemp("verify") / "m.gguf", "qwen3, yarn")
    import_model(path, path.with_suffix(".onebit"), wide="float32")
    return path


class Llama:
    """Stands for llama.cpp: the engine's own logits, changed."""

    change = staticmethod(lambda logits: logits)

    def __init__(self, path, n_ctx, logits_all, **options):
        assert logits_all
        Llama.path = path
        self.session = onebit.load(path.removesuffix(".gguf") + ".onebit", precision="float32", threads=1)
        self.n_ctx = n_ctx

    def reset(self):
        self.scores = np.zeros((self.n_ctx, self.session.vocabulary), np.float32)

    def eval(self, tokens):
        self.scores[: len(tokens)] = self.change(self.session.logits(tokens))


@pytest.fixture
def llama_cpp(monkeypatch):
    module = ModuleType("llama_cpp")
    module.Llama, module.__version__ = Llama, "0"
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    return monkeypatch


def test_an_imported_model_is_compared_with_its_gguf_file(gguf, llama_cpp, capsys):
    file = str(gguf.with_suffix(".onebit"))
    words = ["verify", file, str(gguf), "--threads", "1", "--limit", "20"]
    # What all logits have in common does not count: no probability depends on it.
    llama_cpp.setattr(Llama, "change", staticmethod(lambda logits: logits + 3))
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "in llama.cpp (llama-cpp-python 0): the same" in said
    assert "the same at 20 of 20 positions" in said
    llama_cpp.setattr(Llama, "change", staticmethod(lambda logits: logits[:, ::-1]))
    assert main(words) == 1
    assert "NOT THE SAME: the limit is 0.2 (--tolerance)" in capsys.readouterr().out
    assert main([*words, "--json", "--tolerance", "9"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0.5 < found["mean"] <= found["relative"] < 9
    assert found["equal"] < 20
    llama_cpp.setattr(Llama, "change", staticmethod(lambda logits: logits * np.float32("nan")))
    assert main([*words, "--tolerance", "9"]) == 1


def test_llama_cpp_gets_the_first_part_of_a_split_file(tmp_path, gguf, llama_cpp):
    for name in ("m-00001-of-00002.onebit", "m-00002-of-00002.gguf"):
        (tmp_path / name).write_bytes(gguf.with_suffix(".onebit").read_bytes())
    found = compare_with_source(gguf.with_suffix(".onebit"), tmp_path / "m-00002-of-00002.gguf", limit=3, threads=1)
    assert found.same and Llama.path == str(tmp_path / "m-00001-of-00002.gguf")


def test_one_position_that_is_wrong_is_enough(gguf, llama_cpp):
    def last_one_wrong(logits):
        logits[-1] = -logits[-1]
        return logits

    llama_cpp.setattr(Llama, "change", staticmethod(last_one_wrong))
    found = compare_with_source(gguf.with_suffix(".onebit"), gguf, limit=30, threads=1)
    assert found.relative == pytest.approx(2, rel=1e-3)
    assert found.mean == pytest.approx(2 / 30, rel=1e-2)
    assert not found.same


def test_a_folder_is_compared_in_transformers(tmp_path, capsys, monkeypatch):
    pytest.importorskip("transformers")
    for name, wide, limit in (("llama", "float32", 1e-4), ("qwen3", "int8", 0.1)):
        folder, file = write_folder(tmp_path / name, name), tmp_path / f"{name}.onebit"
        import_model(folder, file, wide=wide)
        assert main(["verify", str(file), str(folder), "--threads", "1", "--limit", "40", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["program"].startswith("transformers ")
        assert 0 < found["relative"] < limit
    # Another model's weights, and another vocabulary.
    assert main(["verify", str(tmp_path / "llama.onebit"), str(tmp_path / "qwen3"), "--threads", "1"]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out
    other = write_folder(tmp_path / "other", "llama")
    (other / "config.json").write_text(
        (other / "config.json").read_text().replace('"vocab_size": 300', '"vocab_size": 290')
    )
    assert main(["verify", str(tmp_path / "llama.onebit"), str(other), "--threads", "1"]) == 1
    assert f"\nonebit: error: [{other}] transformers does not load it: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--limit", "0"], r"\[verify\] limit=0: use 1 or more tokens"),
        (["--tolerance", "-1"], r"\[verify\] tolerance=-1.0: use a number from 0 up"),
        (["--data", "EMPTY"], r"\[verify\] the text is empty: give one of some words"),
        ([], r"m.gguf\] a GGUF file is compared in llama.cpp: pip install llama-cpp-python$"),
    ],
)
def test_what_cannot_be_compared_is_one_line(gguf, tmp_path, monkeypatch, capsys, change, message):
    import re

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    (tmp_path / "empty.txt").write_text("")
    change = [str(tmp_path / "empty.txt") if word == "EMPTY" else word for word in change]
    assert main(["verify", str(gguf.with_suffix(".onebit")), str(gguf), *change]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error.strip()), error
    assert error.count("\n") == 1


def test_a_model_of_another_vocabulary_is_said(gguf, llama_cpp, capsys):
    llama_cpp.setattr(Llama, "change", staticmethod(lambda logits: logits))
    llama_cpp.setattr(Llama, "reset", lambda self: setattr(self, "scores", np.zeros((self.n_ctx, 7), np.float32)))
    llama_cpp.setattr(Llama, "eval", lambda self, tokens: None)
    assert main(["verify", str(gguf.with_suffix(".onebit")), str(gguf), "--threads", "1"]) == 1
    assert "has 7 tokens, " in capsys.readouterr().err
    # A file that is not there.
    assert main(["verify", str(gguf.with_suffix(".onebit")), str(gguf.with_name("none.gguf"))]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_a_folder_of_no_model_is_said(gguf, capsys):
    pytest.importorskip("torch")
    assert main(["verify", str(gguf.with_suffix(".onebit")), str(gguf.parent)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
