"""`onebit plot` as a user types it."""

import sys

import pytest

from onebit.cli.main import main


def test_a_scheme_is_drawn_beside_the_user(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "scheme", "DoReFa(weights=2, activations=3)"]) == 0
    assert capsys.readouterr().out == "DoReFa.png\n"
    assert (tmp_path / "DoReFa.png").read_bytes().startswith(b"\x89PNG")


def test_all_schemes_are_drawn_where_asked(tmp_path, capsys):
    out = tmp_path / "gallery.svg"
    assert main(["plot", "scheme", "all", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert b"</svg>" in out.read_bytes()


def test_a_run_is_drawn_into_its_folder(run_folder, tmp_path, capsys):
    assert main(["plot", "run", str(run_folder), "--out", str(tmp_path / "a.png")]) == 0
    assert main(["plot", "run", str(run_folder)]) == 0
    assert capsys.readouterr().out.endswith(f"{run_folder / 'curves.png'}\n")
    assert (run_folder / "curves.png").read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scheme", "Xnor"], "scheme='Xnor': use BinaryNormalized, Bipolar, Nested, PureBits,"),
        (["scheme", "BinaryNet(1"], "write a name, or Name(option=value, ...), or all"),
        (["scheme", "BinaryNet", "--out", "a.bmp"], "a.bmp: use a name that ends in png, pdf, svg"),
        (["run", "nothing"], "nothing has no curves.csv: give a run folder"),
        (["model", "books", "--out", "a.bmp"], "a.bmp: use a name that ends in png, pdf, svg"),
    ],
)
def test_errors_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: [plot] ")
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


def test_a_model_is_drawn_beside_the_user(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "model", "books"]) == 0
    assert capsys.readouterr().out == "books-31m.png\n"
    assert (tmp_path / "books-31m.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [(["nothing.onebit"], "nothing.onebit"), (["books", "--threads", "0"], "threads=0: use 1 to 256")],
)
def test_errors_of_a_model_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "model", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ") and error.count("\n") == 1 and message in error


def test_a_model_needs_matplotlib_only(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", "model", "books", "--out", str(tmp_path / "a.png")]) == 1
    assert capsys.readouterr().err == 'onebit: error: this command needs matplotlib: pip install "onebit[train]"\n'


def test_only_schemes_runs_and_models_are_drawn():
    with pytest.raises(SystemExit) as stopped:
        main(["plot", "nothing", "a"])
    assert stopped.value.code == 2
