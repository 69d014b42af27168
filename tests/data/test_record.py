"""The fingerprints of runs and their data."""

import json

import numpy as np
from PIL import Image

from onebit.cli.main import main
from onebit.data import load_images
from onebit.data.record import fingerprint_images

TINY = ["--image-size", "8,8", "--widths", "4", "--threads", "1", "--augment", "none", "--quiet"]


def fill(folder, count=5):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name / f"{i}.png")


def test_a_run_may_lie_and_be_plotted_beside_the_parts_that_are_read(tmp_path, monkeypatch, capsys):
    fill(tmp_path / "train")
    fill(tmp_path / "test", 2)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "images", "--data", ".", *TINY, "--epochs", "1"]) == 0
    assert main(["plot", "run", "runs/images"]) == 0
    assert main(["evaluate", "runs/images"]) == 0
    assert main(["train", "images", "--data", ".", *TINY, "--epochs", "2", "--resume"]) == 0
    (tmp_path / "test/cat/0.png").unlink()
    assert main(["train", "images", "--data", ".", *TINY, "--epochs", "3", "--resume"]) == 1
    assert "has changed since" in capsys.readouterr().err


def test_a_run_beside_a_lone_training_part_would_be_a_class(tmp_path, monkeypatch, capsys):
    fill(tmp_path / "train")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "images", "--data", ".", *TINY, "--epochs", "1"]) == 1
    assert "give another --out" in capsys.readouterr().err


def test_a_data_set_keeps_its_name_beside_its_own_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ["--widths", "4", "--threads", "1", "--quiet", "--train-limit", "50", "--epochs", "1"]
    assert main(["train", "digits", *run, "--out", "digits"]) == 0
    assert main(["evaluate", "digits"]) == 0
    assert main(["train", "digits", *run, "--out", "other"]) == 0
    assert json.loads((tmp_path / "other/data.json").read_text()) == {"data": "name digits"}
    assert main(["train", "digits", *run, "--out", "digits", "--resume"]) == 0


def test_a_folder_of_images_goes_before_a_data_set_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "digits")
    assert fingerprint_images("digits").startswith("folder ")
    assert load_images("digits").train.classes == ("cat", "dog")
