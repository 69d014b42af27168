"""`~` is the home folder in every path: on the command line, in the library, and in a recipe."""

import numpy as np
import pytest
from PIL import Image

import onebit
from onebit.cli.main import main
from onebit.data import load_images
from onebit.data.text import load_text
from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.paths import expand
from onebit.pretrained import find
from onebit.text import load_vocabulary
from onebit.training import load_recipe, load_run, train

TINY = ["--image-size", "8,8", "--widths", "4", "--epochs", "1", "--threads", "1", "--augment", "none"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and another place to stand in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


def test_home_other_homes_and_none(home):
    assert expand("~/a") == home / "a"
    assert expand("a/~") == expand("./a/~") == expand("a") / "~"
    assert str(expand("~nobody-of-this-name/a")) == "~nobody-of-this-name/a"


def test_a_network_of_images_from_recipe_to_answer(home, capsys):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (home / "p" / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(home / "p" / name / f"{i}.png")
    (home / "r.yaml").write_text("data: ~/p\nbatch_size: 4\n")
    assert main(["train", "~/r.yaml", *TINY, "--out=~/float", "--quiet", "--binary", "false"]) == 0
    more = ["--warm-start=~/float", "--teacher=~/float"]
    assert main(["train", "~/r.yaml", "--data=~/p", *TINY, "--out=~/run", "--quiet", *more]) == 0
    assert main(["pack", "~/run", "--out=~/m.onebit"]) == 0
    assert main(["classify", "~/m.onebit", "~/p/cat/0.png"]) == 0
    assert onebit.load("~/m.onebit").classify(["~/p/cat/0.png"])
    assert main(["evaluate", "~/m.onebit", "--data=~/p"]) == 0
    assert main(["verify", "~/m.onebit", "~/run", "--data=~/p"]) == 0
    for command in ("info", "bench"):
        assert main([command, "~/m.onebit", *(["--seconds", "0.01"] if command == "bench" else [])]) == 0
    assert main(["summary", "~/run"]) == 0
    assert main(["plot", "run", "~/run"]) == 0
    assert (home / "run" / "curves.png").is_file()
    assert main(["plot", "scheme", "XnorNet", "--out=~/x.png"]) == 0
    assert (home / "x.png").is_file()
    assert load_run("~/run").path == home / "run"
    assert not list(expand(".").iterdir())  # no folder of the name ~


def test_text_its_vocabulary_and_what_it_is_validated_on(home):
    text = "\n".join(f"line {i} of a text" for i in range(200))
    (home / "a.txt").write_text(text)
    (home / "b.txt").write_text(text)
    splits = load_text("~/a.txt", 300, validation="~/b.txt")
    (home / "vocab.txt").write_text("\n".join(splits.task.vocabulary))
    assert load_vocabulary("~/vocab.txt").vocabulary == splits.task.vocabulary
    assert load_text("~/a.txt", "~/vocab.txt").task.vocabulary == splits.task.vocabulary


def test_what_is_not_there_is_named(home):
    for read in (find, load_recipe, load_run, load_model, load_images, onebit.load):
        if read is find:
            assert find("~/nothing") == home / "nothing"
            continue
        with pytest.raises(OnebitError, match="nothing"):
            read("~/nothing")
    with pytest.raises(OnebitError, match="no such"):
        train(load_recipe("digits").override({"data": "~/nothing"}), "~/out", progress=False)


@pytest.mark.parametrize(
    "words",
    [
        ["info", ""],
        ["classify", "", "x.png"],
        ["score", "books", "", "--out", "s"],
        ["score", "books", "x.txt", "--out", ""],
        ["evaluate", ""],
        ["evaluate", "books", "--data", ""],
        ["pack", "run", "--out", ""],
        ["plot", "run", ""],
        ["plot", "scheme", "XnorNet", "--out="],
        ["train", "tiny", "--data", ""],
        ["train", "images", "--data", ""],
        ["train", "digits", "--teacher", ""],
        ["train", "digits", "--out", ""],
        ["train", ""],
        ["generate", "", "prompt"],
        ["reproduce", "table5", "--data", ""],
        ["demo", "--out", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_folder_one_stands_in(home, words, capsys):
    try:
        status = main(words)
    except SystemExit as error:
        status = error.code
    assert status in (1, 2)
    assert "empty" in capsys.readouterr().err.splitlines()[-1]
    assert list((home.parent / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800"])
def test_what_cannot_be_a_path_is_said_in_one_line(home, path):
    for use in (onebit.load, load_run, load_model, load_vocabulary, load_images, load_text, expand):
        with pytest.raises(OnebitError, match=r"^[^\n]*(empty|NUL|surrogate)[^\n]*$"):
            use(path, 300) if use is load_text else use(path)


@pytest.mark.parametrize("path", [None, 1, b"x", [], np.zeros(2)], ids=str)
def test_what_is_not_a_path_is_a_type_error(path):
    with pytest.raises(TypeError):
        expand(path)
