"""`onebit reproduce` as a user types it: every row is trained and packed, and its figures agree with the runs."""

import json
import math
import shutil
import signal
from pathlib import Path

import pytest

import onebit.data.text
from onebit.cli.main import build_parser, main
from onebit.cli.reproduce import _again
from onebit.data import named
from onebit.fileformat import load_model
from onebit.training import load_run
from onebit.training.callbacks import Curves

TINY = ["--scale", "0.001", "--threads", "1", "--quiet", "--precision", "float32"]
LINES = ["one two three four five six seven", "two four six eight", "nine eight seven six five four three two one"]


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text("".join(f"{LINES[i % 3]}\n" for i in range(600)))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory, pictures):
    out = tmp_path_factory.mktemp("tables") / "images"
    words = ["reproduce", "table2", "--data", str(pictures), "--out", str(out), "--batch-size", "16", *TINY]
    assert main(words) == 0
    return out, words


@pytest.fixture(scope="module")
def text(tmp_path_factory, book):
    out = tmp_path_factory.mktemp("tables") / "text"
    words = ["reproduce", "table5", "--data", str(book), "--out", str(out), *TINY]
    assert main(words) == 0
    return out, words


def rows(out, table):
    return {row["name"]: row for row in json.loads((out / f"{table}.json").read_text())["rows"]}


def test_each_network_of_table_2_is_trained_and_packed(images, pictures):
    out, _ = images
    found = rows(out, "table2")
    assert list(found) == ["standard-3x3", "binary-3x3", "standard-5x5", "binary-5x5"]
    for name, row in found.items():
        run = load_run(out / name)
        result, curves = run.result(), run.curves()
        last = curves[result["chosen_epoch"] - 1]
        ours = {key: figure["ours"] for key, figure in row["figures"].items()}
        assert ours == {
            "train_loss": last["train_loss"],
            "train_accuracy": last["train_accuracy"],
            "val_loss": result["test_loss"],
            "val_accuracy": result["test_accuracy"],
        }
        assert row["parameters"] == sum(p.numel() for p in run.model.parameters())
        assert (row["epochs"], row["examples"], row["validated_images"]) == (2, 38, 12)
        assert row["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in curves), abs=0.06)
        assert row["packed_bytes"] == (out / f"{name}.onebit").stat().st_size
        load_model(out / f"{name}.onebit")
        # Four bytes or one bit a parameter, and the file's own.
        share = 4 if name.startswith("standard") else 1 / 8
        assert row["packed_bytes"] > share * row["parameters"]
        assert run.recipe.model.binary == name.startswith("binary")
        assert run.recipe.model.kernel_size == int(name[-1])
    assert found["binary-3x3"]["figures"]["val_accuracy"]["paper"] == 0.637
    assert found["binary-5x5"]["packed_bytes"] < found["standard-5x5"]["packed_bytes"]


def test_the_printed_table_says_what_it_is(images, pictures):
    out, _ = images
    text = (out / "table2.md").read_text()
    assert text.startswith(f"# Table 2 at scale 0.001, on {pictures.name} (the paper: Food-101)\n")
    ours = rows(out, "table2")["binary-3x3"]["figures"]["val_loss"]["ours"]
    assert f"{ours:.3f} (1.55)" in text
    assert "Set by hand: batch_size=16, precision=float32." in text
    assert "not on the paper's Food-101: compare the rows with each other" in text
    assert (out / "table2.png").read_bytes().startswith(b"\x89PNG")


def test_finished_rows_are_skipped_and_ours_come_behind(images, capsys):
    out, words = images
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    (out / "binary-3x3.onebit").unlink()
    assert main([*words, "--resume", "--recipes", "best", "--rows", "best-5x5,binary-3x3"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "binary-3x3.onebit").exists()
    found = rows(out, "table2")
    assert list(found) == ["standard-3x3", "binary-3x3", "standard-5x5", "binary-5x5", "best-5x5"]
    assert found["best-5x5"]["figures"]["val_loss"]["paper"] is None
    recipe = load_run(out / "best-5x5").recipe
    assert (recipe.scheme.name, recipe.model.kernel_size, recipe.optimizer.learning_rate) == ("Bipolar", 5, 2e-3)
    assert "(-)" in capsys.readouterr().out


def test_each_network_of_table_5_is_trained_and_packed(text):
    out, _ = text
    found = rows(out, "table5")
    assert list(found) == ["standard", "binary-small", "binary-large"]
    for name, row in found.items():
        run = load_run(out / name)
        result = run.result()
        last = run.curves()[result["chosen_epoch"] - 1]
        ours = {key: figure["ours"] for key, figure in row["figures"].items()}
        assert ours["train_loss"] == last["train_loss"] and ours["train_accuracy"] == last["train_accuracy"]
        assert ours["train_perplexity"] == pytest.approx(math.exp(last["train_loss"]))
        assert ours["val_perplexity"] == result["validation_padded_perplexity_not_comparable"]
        assert math.exp(ours["val_loss"]) == pytest.approx(ours["val_perplexity"])
        assert ours["val_accuracy"] == result["validation_padded_accuracy_not_comparable"]
        honest = row["validation_padding_not_counted"]
        assert honest["bits_per_byte"] == result["validation_bits_per_byte"]
        assert honest["perplexity"] == result["validation_perplexity"] != ours["val_perplexity"]
        assert run.recipe.data.count_padding
        # 570 sentences are fewer than a thousandth of the paper's: an epoch is a pass over them.
        assert row["examples"] == 64 * 9
        load_model(out / f"{name}.onebit")
    assert found["binary-large"]["parameters"] > found["binary-small"]["parameters"]
    assert found["binary-small"]["packed_bytes"] < found["standard"]["packed_bytes"] / 4


def test_padded_figures_stand_apart_from_honest_ones(text):
    out, _ = text
    printed = (out / "table5.md").read_text()
    assert "padding is counted, as the paper's figures suggest, so compare them only with the paper's" in printed
    assert "| network | val loss | val acc | val ppl | bits per byte | tokens |" in printed
    honest = rows(out, "table5")["binary-large"]["validation_padding_not_counted"]
    assert f"{honest['bits_per_byte']:.3f} | {honest['tokens']:,} |" in printed
    assert (out / "table5.png").read_bytes().startswith(b"\x89PNG")


def test_the_scale_of_the_command_to_go_on_with_has_all_its_digits():
    words = ["reproduce", "table2", "--scale", "0.0123456789"]
    args = build_parser().parse_args(words)
    args.recipe_keys = []
    assert "--scale 0.0123456789 " in _again(args, Path("out"))


def test_an_interrupted_row_is_gone_on_with(images, pictures, tmp_path, monkeypatch, capsys):
    finished, words = images
    out = tmp_path / "out"
    words = [str(out) if word == str(finished) else word for word in words]
    end = Curves.on_train_epoch_end

    def stop(self, trainer, module):
        end(self, trainer, module)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Curves, "on_train_epoch_end", stop)
        assert main([*words, "--rows", "binary-3x3"]) == 130
    error = capsys.readouterr().err
    assert "interrupted; continue with: onebit reproduce table2 --scale 0.001" in error
    assert error.rstrip().endswith("--batch-size 16 --precision float32 --resume")
    assert not (out / "binary-3x3" / "result.json").exists()
    (out / "standard-5x5").mkdir()  # as a stop between the folder and the recipe in it would leave it
    assert main([*words, "--rows", "binary-3x3,standard-5x5", "--resume"]) == 0
    ours = rows(out, "table2")["binary-3x3"]["figures"]
    assert ours == rows(finished, "table2")["binary-3x3"]["figures"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table9"], "[reproduce] table9: use table2 or table5"),
        (["table2", "--scale", "0"], "[reproduce] scale=0: use a number above 0, at most 1 (the paper)"),
        (["table5", "--scale", "2"], "[reproduce] scale=2: use"),
        (["table2", "--rows", "binary"], "[reproduce] rows=binary: table2 has standard-3x3, binary-3x3, standard-5x5"),
        (["table2", "--rows", ","], "[reproduce] rows=: table2 has"),
        (["table2", "--epoch", "3"], "[reproduce] unknown key 'epoch'; did you mean 'epochs'?"),
        (["table2", "--epochs"], "[reproduce] --epochs needs a value"),
        (["table5", "--size", "tiny"], "[reproduce] the rows of table5 differ in size: choose rows with --rows"),
        (["table2", "--data", "BOOK"], "is a file: give a folder with one folder of images for each class"),
        (["table2", "--data", "wikitext-2"], "[wikitext-2] there is no such data set: give a folder"),
        (["table5", "--data", "PICTURES"], "contains images: table5 needs a text file or a folder of text files"),
        (["table5", "--data", "food101"], "[food101] no such file or folder"),
        (["table2", "--resume"], "has no table to continue: leave --resume out"),
        (["table2", "--data", "PICTURES", "--teacher", "no-run"], "[no-run] is not a run folder"),
        (["table2", "--data", "PICTURES", "--warm-start", "no-run"], "[no-run] is not a run folder"),
    ],
)
def test_errors_are_one_line(words, message, book, pictures, tmp_path, capsys):
    words = [{"BOOK": str(book), "PICTURES": str(pictures)}.get(word, word) for word in words]
    scale = [] if "--scale" in words else ["--scale", "0.01"]
    assert main(["reproduce", *words, *scale, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scale", ["1", "0.01"])
def test_the_papers_data_that_cannot_be_had_says_what_to_give(scale, tmp_path, monkeypatch, capsys):
    nothing = str(tmp_path / "nothing")
    monkeypatch.setitem(named.HUB_SETS, "food101", named.HUB_SETS["food101"]._replace(path=nothing))
    monkeypatch.setattr(onebit.data.text, "WIKITEXT_PATH", nothing)
    for table, give in (
        ("table2", "give folders of images with --data PATH"),
        ("table5", "give text files with --data PATH"),
    ):
        assert main(["reproduce", table, "--scale", scale, "--out", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and give in error
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_one_table_of_one_kind(images, book, tmp_path, capsys):
    _, words = images
    for change, message in (
        ([], "has a table: continue with --resume"),
        (["--resume", "--scale", "0.002"], "was started with scale=0.001, not 0.002: resume with the same"),
        (["--resume", "--data", str(book)], f"not {book}: resume with the same"),
        (["--resume", "--paper-rate"], "was started with paper_rate=False, not True"),
        (["--resume", "--seed", "1"], "was started with keys={"),
    ):
        assert main([*words, *change]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error
    assert main(["reproduce", "table5", *words[2:], "--resume"]) == 1
    assert "was started with table=table2, not table5" in capsys.readouterr().err
    (tmp_path / "note.txt").write_text("mine")
    for path, message in ((tmp_path, "is not empty"), (tmp_path / "note.txt", "is a file")):
        assert main(["reproduce", "table2", "--out", str(path)]) == 1
        assert message in capsys.readouterr().err


def test_a_row_of_another_recipe_or_a_damaged_folder_is_refused(images, tmp_path, capsys):
    finished, words = images
    words = [str(tmp_path) if word == str(finished) else word for word in words]
    (tmp_path / "reproduction.json").write_text((finished / "reproduction.json").read_text())
    (tmp_path / "binary-3x3").mkdir()
    recipe = (finished / "binary-3x3" / "recipe.yaml").read_text()
    (tmp_path / "binary-3x3" / "recipe.yaml").write_text(recipe.replace("kernel_size: 3", "kernel_size: 1"))
    assert main([*words, "--resume"]) == 1
    assert (
        "binary-3x3 was trained with another recipe: kernel_size=1, and not 3: give another --out"
        in capsys.readouterr().err
    )
    (tmp_path / "reproduction.json").write_text("{")
    assert main([*words, "--resume"]) == 1
    assert "reproduction.json] damaged" in capsys.readouterr().err


def test_a_table_goes_on_from_any_place_with_data_that_were_moved(images, pictures, tmp_path, monkeypatch, capsys):
    finished, words = images
    out = shutil.copytree(finished, tmp_path / "table")
    shutil.copytree(pictures, tmp_path / "here" / "pictures")
    monkeypatch.chdir(tmp_path / "here")
    words = [str(out) if word == str(finished) else "pictures" if word == str(pictures) else word for word in words]
    rows = ["--resume", "--rows", "binary-3x3"]
    assert main([*words, *rows]) == 0
    assert json.loads((out / "reproduction.json").read_text())["data"] == str(tmp_path / "here" / "pictures")
    next((tmp_path / "here" / "pictures").glob("*/*")).unlink()
    capsys.readouterr()
    assert main([*words, *rows]) == 1
    assert "was trained with data=" in capsys.readouterr().err
