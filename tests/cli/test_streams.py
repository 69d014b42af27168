"""The command with any standard input and output, and with any names of files."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from onebit.cli import streams
from onebit.cli.main import main
from onebit.cli.prompts import file_and_prompt
from onebit.fileformat import PackedModel, save_model
from onebit.pretrained import find
from onebit.program import Program, Step

LABELS = ["\x1b]0;title\x07\x1b[2Jcat", "dog\nonebit: error: forged", "\x9b31mred", "\u202eevil", "ok\r\x1b[1A"]
# All that may reach a terminal: C0 but for line ends, C1, and what turns the direction.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def save(path, labels, kind="image-classification"):
    weights = {"w": np.random.default_rng(0).normal(size=(len(labels), 12)).astype(np.float32)}
    linear = {"in_features": 12, "out_features": len(labels)}
    steps = (Step("flatten", ("x",), "f", {"order": "hwc"}), Step("linear", ("f",), "y", linear, {"weight": "w"}))
    scaling = {"channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    task = {"kind": kind, "labels": labels, "image_size": [2, 2], **scaling}
    save_model(PackedModel(Program("x", (2, 2, 3), steps, "y"), weights, task), path)
    return str(path)


@pytest.fixture
def model(tmp_path):
    return save(tmp_path / "m.onebit", ["\u732b", "\u00e9"])


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "\u00e9.png")
    return str(tmp_path / "\u00e9.png")


def shell(words, redirections="", **environment):
    """A command through a shell, with a buffered output as users have it."""
    script = f'"$@" {redirections}'
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "onebit", *words],
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )


def test_labels_kinds_and_names_reach_a_terminal_escaped(tmp_path, capfd):
    file = save(tmp_path / "m\x1b[2J.onebit", LABELS)
    red, bad = tmp_path / "\x1b[31mred\n.png", tmp_path / "\u202ebad.png"
    Image.new("RGB", (4, 4)).save(red)
    bad.touch()
    assert main(["classify", file, str(red), str(bad)]) == 1
    assert main(["info", file, "--engine"]) == 0
    assert main(["bench", file, "--seconds", "0.01", "--threads", "1"]) == 0
    assert main(["evaluate", file, "--data", str(bad)]) == 1
    assert main(["info", str(red)]) == 1
    assert main(["train", str(red)]) == 1
    assert main(["generate", file, "It"]) == 1
    with pytest.raises(SystemExit):
        main(["info", file, "\x1b[2J"])
    out, err = capfd.readouterr()
    assert not RAW.search(out + err)
    assert not re.search("^onebit: error: forged", out + err, re.MULTILINE)
    for label in LABELS:
        assert label.encode("unicode_escape").decode() in out
    assert "\\x1b[31mred\\n.png" in out


def test_a_forged_kind_is_one_line(tmp_path, capfd):
    main(["info", save(tmp_path / "m.onebit", ["a"], "odd\x1b[2J\nkind")])
    assert not RAW.search("".join(capfd.readouterr()))


@pytest.mark.parametrize(("encoding", "label"), [("ascii", "\\xe9"), ("cp1252", "\u00e9"), ("cp437", "\u00e9")])
def test_characters_that_an_output_does_not_have(model, picture, encoding, label, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))
    assert main(["classify", model, picture, "\u732b.png"]) == 1
    assert main(["info", model]) == 0
    output, errors = (stream.buffer.getvalue().decode(encoding) for stream in (sys.stdout, sys.stderr))
    assert f"/{label}.png: " in output
    assert f"\\u732b, {label}" in output
    assert "\\u732b.png: no such file" in errors


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams(model, picture, closed, tmp_path):
    result = shell(["classify", model, picture], closed)
    assert (result.returncode, result.stderr) == (0, b"")
    assert bool(result.stdout) == (">&- " not in f" {closed} ".replace("2>&-", ""))


def test_a_model_is_not_opened_in_the_place_of_a_closed_output():
    result = shell(["generate", "books", "It", "--max-new-tokens", "3"], ">&- <&-")
    assert (result.returncode, result.stderr) == (0, b"")
    assert shell(["generate"], "<&-").returncode == 0


def test_all_three_streams_are_open_files(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    streams.prepare()
    print("nowhere")
    streams.say_error("nowhere")
    assert sys.stdin.read() == ""
    streams.finish()


@pytest.mark.parametrize("words", [["info"], ["generate", "books", "It", "--max-new-tokens", "3"], ["--help"]])
def test_a_full_disk_under_the_output(model, words):
    words = ["info", model] if words == ["info"] else words
    result = shell(words, ">/dev/full")
    assert result.returncode == 1
    assert result.stderr == b"onebit: error: [output] cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "a.onebit"), "[a.onebit] Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "/a.onebit"), "[/a.onebit] No such file or directory"),
        (OSError("a line of our own"), "a line of our own"),
    ],
)
def test_an_error_of_the_system_names_the_file_first(error, line, capsys):
    streams.say_error(error)
    assert capsys.readouterr().err == f"onebit: error: {line}\n"


def test_errors_that_cannot_be_written():
    result = shell(["info", "nothing"], "2>/dev/full")
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", b"")


def test_a_reader_that_has_gone():
    result = shell(["generate", "books", "It", "--max-new-tokens", "9"], "| true")
    assert result.stderr == b""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((None, None), ("books", None)),
        (("", None), ("books", "")),
        (("and/or", None), ("books", "and/or")),
        (("It was", None), ("books", "It was")),
        (("a" * 300, None), ("books", "a" * 300)),
        (("books", None), ("books", None)),
        (("books", ""), ("books", "")),
    ],
)
def test_which_word_is_the_file_and_which_the_prompt(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert file_and_prompt(*words) == (find(expected[0]), expected[1])


@pytest.mark.parametrize("file", ["x.onebit", "runs/x", "./x", "/x/y", "~/x"])
def test_what_looks_like_a_path_is_a_mistyped_one(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    path, prompt = file_and_prompt(file, None)
    assert (str(path), prompt) == (str(find(file)), None)


def test_an_error_of_an_argument_comes_before_the_prompt(capfd):
    for words in (["--temperature", "nan"], ["--top-p", "nan"], ["--stop", ""], ["--max-new-tokens", "0"]):
        assert main(["generate", "books", "It", *words]) == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("onebit: error: [generate]") and err.count("\n") == 1
    assert main(["generate", "", "It"]) == 1
    assert "FILE is empty" in capfd.readouterr().err


def test_a_prompt_is_written_as_it_can_be_read(capfd, monkeypatch):
    assert main(["generate", "books", "caf\udce9\x1b[2J\tnoir", "--max-new-tokens", "1"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("caf\ufffd\\x1b[2J\tnoir")
    assert "the prompt is not UTF-8" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8"))
    assert main(["generate", "--max-new-tokens", "1"]) == 0
    assert capfd.readouterr().out.startswith("caf\ufffd")


def test_ctrl_c_while_the_command_is_imported(tmp_path):
    """Nothing is imported before it is caught: here the first import of the command is what it meets."""
    (tmp_path / "argparse.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    heard = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); runpy.run_module('onebit', run_name='__main__')"
    for redirection, error in (("", b"\nonebit: interrupted\n"), ("2>/dev/full", b""), ("2>&-", b"")):
        result = subprocess.run(
            ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, "-c", heard],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert (result.returncode, result.stderr) == (130, error)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2> >(true)"])
def test_progress_that_cannot_be_written_ends_no_training(tmp_path, redirection):
    words = ["train", "digits", "--widths", "4", "--epochs", "2", "--threads", "1", "--out", str(tmp_path / "a")]
    result = shell(words, redirection)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"test images (epoch " in result.stdout
    assert (tmp_path / "a" / "result.json").is_file()
