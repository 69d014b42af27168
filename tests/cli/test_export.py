"""`onebit export` as a user types it."""

import json

import pytest

from onebit.cli.main import main
from onebit.exports import FORMATS


def test_a_file_is_exported_and_checked(packed, tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    assert main(["export", "safetensors", str(packed), "--out", str(out), "--check"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: ") and "all equal" in printed and out.exists()
    assert main(["export", "safetensors", str(packed), "--out", str(tmp_path / "b"), "--dtype", "int8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"]["check"] is None
    assert (tmp_path / "b").stat().st_size < out.stat().st_size


def test_a_check_that_fails_exits_with_1(packed, tmp_path, monkeypatch, capsys):
    from onebit.exports import Check, safetensors

    monkeypatch.setattr(safetensors, "_check", lambda model, path: Check(2, 20, 1))
    assert main(["export", "safetensors", str(packed), "--out", str(tmp_path / "a"), "--check"]) == 1
    assert "1 DIFFERENT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tflite", "FILE", "--out", "new"], "[export] format 'tflite' is unknown: use safetensors"),
        (["safetensors", "FILE", "--out", "."], "is a folder: give the name of a file in it"),
        (["safetensors", "FILE", "--out", "there"], "there exists: give another name, or delete it first"),
        (["safetensors", "there", "--out", "new"], "there"),
        (["safetensors", "nothing", "--out", "new"], "nothing"),
        (["safetensors", "FILE", "--out", "no/new"], "[no/new] there is no folder no: make it first"),
    ],
)
def test_errors_are_one_line(packed, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("not a packed file")
    assert main(["export", *(str(packed) if word == "FILE" else word for word in words)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ") and error.count("\n") == 1 and message in error
    assert (tmp_path / "there").read_text() == "not a packed file" and not (tmp_path / "new").exists()


def test_an_empty_path_is_a_wrong_usage(packed, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["export", "safetensors", str(packed), "--out", ""])
    assert exit.value.code == 2
    assert "argument --out: a path is empty" in capsys.readouterr().err


def test_help_names_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in FORMATS)
