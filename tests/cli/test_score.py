"""Refusals of `onebit score`, each in one line and before Ray starts."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import onebit
from onebit.cli.main import main
from onebit.fileformat import PackedModel, load_model, save_model

pytest.importorskip("ray", reason="Ray is not installed")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "sides.onebit"
    onebit.pack(onebit.models.conv_classifier(3, 2, (4,)), path, onebit.ImageTask(("left", "right"), (8, 8)))
    return path


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.full((9, 9, 3), 80 * i, np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def fails(capfd, monkeypatch, tmp_path):
    """The command fails with one line that holds a message; `--out` is a new folder unless given."""

    def check(message, *words):
        capfd.readouterr()
        words = ["score", *map(str, words), *([] if "--out" in words else ["--out", str(tmp_path / "out")])]
        assert main(words) == 1
        error = capfd.readouterr().err
        assert error.startswith("onebit: error: ")
        assert error.count("\n") == 1
        assert message in error

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return check


def test_models_and_data(classifier, data, tmp_path, fails):
    fails("no such file", tmp_path / "none.onebit", data)
    fails("is not a .onebit file", data / "0.png", data)
    fails("no such file or folder", classifier, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    fails("contains no images", classifier, tmp_path / "empty")
    fails("--column and --keep apply to Parquet files", classifier, data, "--column", "a")
    fails("lies in", classifier, data, "--out", data / "scores")
    fails("contains other files and no scores", classifier, data / "0.png", "--out", data)
    fails("is a file: give a folder", classifier, data, "--out", classifier)
    model = load_model(classifier)
    save_model(PackedModel(model.program, model.tensors, {"kind": "other"}), tmp_path / "other.onebit")
    fails("neither an image classifier nor a language model", tmp_path / "other.onebit", data)


def test_options(classifier, data, fails):
    fails("top=0: use 1 or more", classifier, data, "--top", "0")
    fails("part_records=0: use 1 or more", classifier, data, "--part", "0")
    fails("workers=0: use 1 to 256", classifier, data, "--workers", "0")
    fails("threads=300: use 1 to 256", classifier, data, "--threads", "300")


def test_clusters_that_do_not_answer(classifier, data, fails, monkeypatch):
    fails("no Ray cluster answers at 127.0.0.1:1 (", classifier, data, "--address", "127.0.0.1:1")
    fails("no Ray cluster answers at ray://127.0.0.1:1 (", classifier, data, "--address", "ray://127.0.0.1:1")
    fails("no Ray cluster answers at host:port (", classifier, data, "--address", "host:port")
    fails("address='nonsense': use HOST:PORT, or auto", classifier, data, "--address", "nonsense")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    fails("no Ray cluster answers at 127.0.0.1:1 (", classifier, data)


def test_without_ray(classifier, data, tmp_path):
    for missing in ("ray", "pyarrow"):
        script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "{missing}":
            raise ImportError(name + " is not installed", name=name)
sys.meta_path.insert(0, Refuse())
from onebit.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
        words = ["score", classifier, data, "--out", tmp_path / "out"]
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr == 'onebit: error: [score] needs Ray: pip install "onebit[scale]"\n'


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount a small disk")
def test_a_full_disk(classifier, data, tmp_path, fails):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        out = disk / "out"
        out.mkdir()
        (disk / "filler").write_bytes(bytes(14_000))
        fails("No space left", classifier, data, "--out", out)
        assert not list(out.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
