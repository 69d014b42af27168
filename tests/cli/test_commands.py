"""Every command as a user types it, and every error that a user can provoke."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onebit
from onebit.cli import arguments
from onebit.cli.commands import COMMANDS
from onebit.cli.main import main


def fails(capsys, words, message, status=1):
    """The command fails with one line that holds `message`."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == status
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert f"onebit {command}" in printed.split("examples:")[1]
    assert "%%" not in printed


def test_flags_have_one_spelling_and_take_the_other(capsys):
    for words in (["--checkpoint_steps", "5", "--batch_size=7"], ["--checkpoint-steps", "5", "--batch-size=7"]):
        assert main(["train", "digits", *words, "--show"]) == 0
        assert "batch_size: 7" in capsys.readouterr().out
    assert arguments.with_dashes(["--top_k", "a_b", "--stop=c_d", "--", "--e_f"]) == [
        "--top-k",
        "a_b",
        "--stop=c_d",
        "--",
        "--e_f",
    ]


def test_wrong_usage_exits_with_2(capsys):
    for words in ([], ["nothing"], ["pack"], ["info"], ["info", "a", "--colour"], ["classify", "a"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2


def test_a_label_for_a_picture_in_three_commands(packed, pictures, capsys):
    capsys.readouterr()
    files = [str(pictures / "left" / "0.png"), str(pictures / "right" / "1.jpg")]
    assert main(["classify", str(packed), *files, "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == ["left", "right"]


def test_classify_for_programs(packed, pictures, capsys):
    capsys.readouterr()
    file = str(pictures / "left" / "0.png")
    assert main(["classify", str(packed), file, "--json", "--precision", "float32"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["file"] == file
    assert [label["label"] for label in result["labels"]] == ["left", "right"]
    assert sum(label["probability"] for label in result["labels"]) == pytest.approx(1)


def test_one_bad_image_among_good_ones(packed, pictures, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["classify", str(packed), str(tmp_path / "bad.jpg"), str(pictures / "left" / "0.png")]) == 1
    output = capsys.readouterr()
    assert "left" in output.out
    assert "bad.jpg: is not an image" in output.err


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (500, 3)])
def test_images_of_any_kind_and_size(packed, tmp_path, mode, size):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    image = Image.fromarray(np.full((size[1], size[0]), 40000, np.uint16)) if mode == "I;16" else Image.new(mode, size)
    image.save(path)
    assert main(["classify", str(packed), str(path)]) == 0


def test_verify_finds_the_packed_file_equal(packed, run_folder, capsys):
    capsys.readouterr()
    assert main(["verify", str(packed), str(run_folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["equal"]
    assert {row["computed by"] for row in result["comparisons"]} == {
        "NumPy float32",
        "NumPy int8",
        "engine float32",
        "engine int8",
    }
    assert all(row["relative"] < 1e-4 for row in result["comparisons"] if "float32" in row["computed by"])


def test_verify_from_python(packed, run_folder):
    found = onebit.verify(packed, onebit.training.load_run(run_folder), limit=5, threads=1)
    assert found.equal
    assert [str(c.computation) for c in found.comparisons] == [
        "NumPy float32",
        "NumPy int8",
        "engine float32",
        "engine int8",
    ]
    assert {c.compared for c in found.comparisons} == {5}
    (float32,) = found.of("engine", "float32")
    other = replace(found, comparisons=(replace(float32, beyond=1),))
    assert not other.equal and not other.to_dict()["equal"] and "NOT EQUAL" in str(other)
    # A few outputs may differ where numbers between two levels are rounded.
    some = replace(other, rounded=True, comparisons=(replace(float32, beyond=1, compared=100),))
    assert some.equal and "1 outputs differ by more" in str(some)


def test_evaluate_from_python(packed, run_folder, pictures):
    trained = onebit.evaluate(onebit.training.load_run(run_folder), threads=1)
    again = onebit.evaluate(run_folder, pictures, threads=1)
    file = onebit.evaluate(packed, pictures, precision="float32", threads=1)
    assert trained.accuracy == again.accuracy == file.accuracy
    assert (file.numerics, file.images, file.part) == ("engine float32", trained.images, "test")
    assert f"accuracy {100 * file.accuracy:.2f} %" in str(file)
    assert file.to_dict()["notes"] == list(file.notes)


def test_verify_finds_another_network_unequal(packed, run_folder, tmp_path, capsys):
    import torch

    other = tmp_path / "other"
    shutil.copytree(run_folder, other)
    for file in (other / "checkpoints").iterdir():
        content = torch.load(file, weights_only=True)
        content["state_dict"]["model.features.0.weight"].neg_()
        torch.save(content, file)
    capsys.readouterr()
    assert main(["verify", str(packed), str(other)]) == 1
    assert "NOT EQUAL" in capsys.readouterr().out


def test_evaluate_gives_one_accuracy_for_both_forms(packed, run_folder, pictures, capsys):
    capsys.readouterr()
    accuracies = []
    for words in ([str(run_folder)], [str(packed), "--data", str(pictures), "--precision", "float32"]):
        assert main(["evaluate", *words, "--json"]) == 0
        accuracies.append(json.loads(capsys.readouterr().out))
    assert accuracies[0]["accuracy"] == accuracies[1]["accuracy"] >= 0.9
    assert accuracies[0]["loss"] == pytest.approx(accuracies[1]["loss"], rel=1e-3)


def test_info(packed, capsys):
    capsys.readouterr()
    assert main(["info", str(packed), "--engine", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    model = onebit.models.conv_classifier(3, 2, (8, 8))
    assert result["bit_parameters"] == sum(p.numel() for p in model.parameters())
    assert result["file_bytes"] == packed.stat().st_size
    assert sum(isa["used"] for isa in result["engine"]) == 1
    assert result["calibration"]["source"].endswith("ONEBIT_CALIBRATION=off")
    assert any(step["step"].startswith("bit_conv2d") for step in result["plan"]["steps"])
    assert main(["info", str(packed)]) == 0
    assert "left, right" in capsys.readouterr().out
    assert main(["info", str(packed), "--engine"]) == 0
    output = capsys.readouterr().out
    assert "block of activations" in output
    assert "ONEBIT_CALIBRATION=off" in output


def test_info_tells_which_ways_were_measured_and_where_they_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ONEBIT_CALIBRATION")
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    assert main(["info", "--engine"]) == 0
    output = capsys.readouterr().out
    (kept,) = (tmp_path / "cache").iterdir()
    assert f"measured now: {kept}" in output
    assert (
        "measured earlier"
        in subprocess.run(
            [sys.executable, "-m", "onebit", "info", "--engine"], capture_output=True, text=True, check=True
        ).stdout
    )
    monkeypatch.setenv("ONEBIT_CACHE", str(kept))
    assert main(["info", "--engine"]) == 0
    assert "cannot be written" in capsys.readouterr().out
    monkeypatch.setenv("ONEBIT_CALIBRATION", "guess")
    fails(capsys, ["info", "--engine"], "ONEBIT_CALIBRATION=guess")


def test_info_from_python(packed):
    found = onebit.info(packed)
    assert (found.task["labels"], found.input_shape, found.output_shape) == (["left", "right"], (16, 16, 3), (2,))
    assert found.to_dict()["steps"] == list(found.steps)
    assert f"{found.file_bytes:,} in all" in str(found)


def test_pack_prints_what_became_of_every_byte(run_folder, tmp_path, capsys):
    capsys.readouterr()
    assert main(["pack", str(run_folder), "--out", str(tmp_path / "a.onebit"), "--checkpoint", "last"]) == 0
    output = capsys.readouterr().out
    assert "all of them one bit each" in output
    assert "features.0.normalize.scale: 8 (running statistics of a batch normalisation)" in output


def test_show_prints_the_recipe_with_its_overrides(capsys):
    assert main(["train", "digits", "--epochs=7", "--binary", "false", "--normalize", "none", "--show"]) == 0
    output = capsys.readouterr().out
    assert "epochs: 7" in output
    assert "binary: false" in output
    assert "normalize: null" in output


def test_errors_of_files(packed, run_folder, pictures, tmp_path, capsys):
    image = pictures / "left" / "0.png"
    fails(capsys, ["classify", tmp_path / "none.onebit", image], "no such file")
    fails(capsys, ["classify", image, image], "is not a .onebit file")
    fails(capsys, ["info", run_folder], "is a folder")
    (tmp_path / "short.onebit").write_bytes(packed.read_bytes()[:-100])
    fails(capsys, ["classify", tmp_path / "short.onebit", image], "is truncated")
    fails(capsys, ["classify", packed, tmp_path], "is a folder, not an image")
    fails(capsys, ["classify", packed, image, "--top", "0"], "top=0: use 1 or more")
    fails(capsys, ["classify", packed, image, "--threads", "0"], "threads=0: use 1 to 256")
    fails(capsys, ["pack", tmp_path], "is not a run folder")
    fails(capsys, ["pack", run_folder, "--out", tmp_path / "no" / "a.onebit"], "there is no folder")
    fails(capsys, ["evaluate", packed], "give --data")
    fails(capsys, ["evaluate", packed, "--data", "nothing"], "there is no such data set")
    fails(capsys, ["verify", packed, run_folder, "--limit", "0"], "use 1 or more")


def test_errors_of_training(run_folder, pictures, tmp_path, capsys):
    fails(capsys, ["train", "nothing"], "no such recipe")
    fails(capsys, ["train", "digits", "--epoch", "5"], "did you mean 'epochs'")
    fails(capsys, ["train", "digits", "--epochs"], "--epochs needs a value")
    fails(capsys, ["train", "digits", "--epochs", "five"], "needs an integer")
    fails(capsys, ["train", "digits", "five"], "is not a flag")
    fails(capsys, ["train", "images", "--data", str(tmp_path), "--out", str(run_folder.parent / "r")], "has no folders")
    fails(capsys, ["train", "images", "--data", str(pictures), "--out", str(run_folder)], "is not empty")
    fails(capsys, ["train", "images", "--out", str(tmp_path / "r")], "there is no such data set")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount a small disk")
def test_a_disk_that_fills_leaves_the_old_file_whole(run_folder, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (disk / "a.onebit").write_bytes(b"old")
        (disk / "filler").write_bytes(bytes(12_000))
        fails(capsys, ["pack", run_folder, "--out", disk / "a.onebit"], "No space left")
        assert (disk / "a.onebit").read_bytes() == b"old"
        assert sorted(file.name for file in disk.iterdir()) == ["a.onebit", "filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def python(script, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def test_running_a_file_needs_no_training_library(packed, pictures):
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning", "datasets", "sklearn", "matplotlib", "yaml"):
            raise ImportError(f"{name} is not installed", name=name)
sys.meta_path.insert(0, Refuse())
from onebit.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    image = pictures / "left" / "0.png"
    for words in (["classify", packed, image], ["info", packed, "--engine"], ["evaluate", packed, "--data", pictures]):
        result = python(script, *words)
        assert (result.returncode, result.stderr) == (0, "")
    result = python(script, "train", "digits")
    assert result.returncode == 1
    assert 'pip install "onebit[train]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_importing_is_quick_and_loads_no_pytorch():
    result = python(
        "import sys, time; t = time.perf_counter(); import onebit; print(time.perf_counter() - t, 'torch' in sys.modules, dir(onebit))"
    )
    seconds, torch_loaded, names = result.stdout.split(maxsplit=2)
    assert float(seconds) < 0.3
    assert torch_loaded == "False"
    assert "load" in names


def test_a_closed_pipe_is_no_error(packed):
    command = f"{sys.executable} -m onebit info {packed} | true"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert result.stderr == ""


def test_the_demo(tmp_path, capsys):
    out = tmp_path / "demo"
    for _ in range(2):  # the second replaces the first
        assert main(["demo", "--out", str(out), "--epochs", "1"]) == 0
    output = capsys.readouterr().out
    for row in ("test accuracy", "bytes of parameters", "bytes of the file", "ms per image"):
        assert row in output
    assert Image.open(out / "demo.png").size[0] > 800
    samples = sorted(map(str, (out / "samples").iterdir()))
    assert main(["classify", str(out / "digits.onebit"), *samples]) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    fails(capsys, ["demo", "--out", tmp_path / "other"], "is not an earlier demo")
    assert Path(tmp_path / "other" / "letter.txt").exists()
