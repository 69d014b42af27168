"""`onebit classify` classifies every picture that it can read, and names the others."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from onebit.cli.main import main


@pytest.mark.parametrize("as_json", [False, True])
def test_one_bad_picture_ends_nothing(packed, pictures, tmp_path, capsys, as_json):
    good = [str(pictures / "left" / "0.png"), str(pictures / "right" / "1.jpg")]
    Image.open(good[0]).save(tmp_path / "exif.png", exif=b"garbage")
    Image.fromarray(np.full((4, 4), -7, np.float32)).save(tmp_path / "range.tif")
    (tmp_path / "cut.jpg").write_bytes((pictures / "right" / "1.jpg").read_bytes()[:300])
    (tmp_path / "loop.png").symlink_to("loop.png")
    bad = [str(tmp_path / name) for name in ("range.tif", "cut.jpg", "loop.png", "none.png")]
    files = [good[0], *bad, str(tmp_path / "exif.png"), good[1]]
    capsys.readouterr()
    assert main(["classify", str(packed), *files, "--top", "1", *(["--json"] if as_json else [])]) == 1
    output = capsys.readouterr()
    if as_json:
        answers = [(answer["file"], answer["labels"][0]["label"]) for answer in json.loads(output.out)]
    else:
        answers = [(line.split(": ")[0], line.split(": ")[1].split()[0]) for line in output.out.splitlines()]
    assert answers == [(good[0], "left"), (str(tmp_path / "exif.png"), "left"), (good[1], "right")]
    lines = output.err.splitlines()
    assert len(lines) == len(bad)
    for line, file in zip(lines, bad, strict=True):
        assert line.startswith(f"onebit: error: [image] {file}: ")


def test_what_is_left_out_of_an_evaluation_is_said(packed, pictures, tmp_path, capsys):
    for name in ("left", "right"):
        shutil.copytree(pictures / name, tmp_path / "data" / name)
    shutil.copytree(pictures / "left", tmp_path / "data" / "right" / ".ipynb_checkpoints")
    assert main(["evaluate", str(packed), "--data", str(tmp_path / "data")]) == 0
    assert "left out 1 hidden file or folder, the first right/.ipynb_checkpoints" in capsys.readouterr().err
