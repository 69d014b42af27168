"""The decoder in the package: its file agrees with its figures, and it writes English without PyTorch and without a file name."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onebit
from onebit import pretrained
from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.training import load_recipe

# By nobody whom it can have read.
PASSAGE = (
    "It was late in the evening when the old man came back to the house. He opened the door, and sat down by the fire without a word. "
    "His wife looked at him, but she did not ask him where he had been. The children were asleep, and the rain was falling on the roof."
)


def test_it_is_found_by_its_name_where_no_file_has_it(tmp_path, monkeypatch):
    assert pretrained.names() == ["books-10m", "books-31m"]
    assert pretrained.find("books-10m").is_file()
    assert pretrained.find("books") == pretrained.find(pretrained.DEFAULT)
    assert pretrained.figures("books") == pretrained.figures(pretrained.DEFAULT)
    assert pretrained.find("runs/mine.onebit") == Path("runs/mine.onebit")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books").write_text("mine")
    assert pretrained.find("books").read_text() == "mine"


@pytest.mark.parametrize("name", pretrained.names())
def test_every_weight_is_a_bit_and_the_file_what_its_figures_say(name):
    file, figures = pretrained.find(name), pretrained.figures(name)
    assert file.stat().st_size == figures["binary"]["file_bytes"] <= 5_000_000
    model = load_model(file)
    floats = sum(tensor.size for tensor in model.tensors.values() if tensor.dtype != np.dtype(np.uint8))
    assert floats == figures["binary"].get("float_values", 0) < 0.003 * figures["binary"]["parameters"]
    lines = file.with_suffix(".csv").read_text().splitlines()
    if file.with_suffix(".yaml").exists():
        recipe = load_recipe(file.with_suffix(".yaml"))
        assert recipe.model.binary and len(lines) == 1 + recipe.schedule.epochs
    else:
        assert len(lines) == 1 + figures["binary"]["steps"] // 250


def test_it_knows_english_better_than_what_is_none():
    session = onebit.load("books", threads=1)
    nats = -sum(value for _, value in session.score(PASSAGE))
    assert nats / math.log(2) / len(PASSAGE) < 1.5
    shuffled = "".join(np.random.default_rng(0).permutation(list(PASSAGE)))
    assert -sum(value for _, value in session.score(shuffled)) > 2 * nats


def test_both_numerics_agree():
    a, b = (onebit.load("books", precision, threads=1) for precision in ("float32", "int8"))
    one, other = (np.array([value for _, value in session.score(PASSAGE)]) for session in (a, b))
    assert abs(one - other).mean() < 0.1


def test_generate_writes_with_it_where_no_file_is_given(capsys):
    options = ["--max-new-tokens", "20", "--seed", "3"]
    assert main(["generate", "It was", *options]) == 0
    alone = capsys.readouterr().out
    assert main(["generate", "books", "It was", *options]) == 0
    assert capsys.readouterr().out == alone
    assert alone.startswith("It was") and len(alone) > 30
    assert main(["generate", "It was", *options, "--json"]) == 0
    assert "It was" + json.loads(capsys.readouterr().out)["text"] + "\n" == alone


@pytest.mark.parametrize("word", ["mine.onebit", "runs/mine"])
def test_a_single_word_that_looks_like_a_file_is_none_to_go_on_from(word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert main(["generate", word]) == 1
    output = capsys.readouterr()
    assert output.err.startswith(f"onebit: error: [{word}] ")
    assert output.err.count("\n") == 1 and not output.out
    with pytest.raises((OnebitError, OSError)):
        onebit.load("nothing")


def test_it_needs_no_pytorch():
    code = "import sys; from onebit.cli.main import main; main(['generate', 'It was', '--max-new-tokens', '3']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
