"""A recurrent language model that the commands train, pack, verify, score and generate with, and images read line by line."""

import json

import numpy as np
import pytest

import onebit
from onebit.cli.main import main
from onebit.nn.binary import binary_layers
from onebit.training import load_run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(
    scope="module", params=["lstm", "gru --hybrid true --scheme BinaryNet", "lstm --binary false", "gru --head 24"]
)
def run_folder(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "book.txt").write_text(
        "".join(f"It was night number {i % 10}, and the cat sat on the mat.\n" for i in range(800))
    )
    keys = (
        "--vocabulary 300 --context 32 --features 16 --hidden 32 --epochs 2 --epoch-steps 40 --batch-size 8 --warmup 5"
    )
    words = ["train", "lstm", "--data", str(folder / "book.txt"), "--out", str(folder / "run"), *keys.split()]
    assert main([*words, "--quiet", "--learning-rate", "1e-2", "--model", *request.param.split()]) == 0
    return folder / "run"


def test_a_recurrent_language_model_goes_all_the_way(run_folder, capsys):
    assert load_run(run_folder).result()["validation_loss"] < 3.5  # by chance a token of 300 costs 5.7
    packed = run_folder.with_suffix(".onebit")
    assert main(["pack", str(run_folder)]) == 0
    capsys.readouterr()
    assert main(["info", str(packed), "--json"]) == 0
    model = load_run(run_folder).model
    bits = [layer.bits() for layer in binary_layers(model).values()]
    told = json.loads(capsys.readouterr().out)["bit_parameters"]
    assert told == sum(b.numel() for pair in bits for b in pair if b is not None)
    assert main(["verify", str(packed), str(run_folder), "--limit", "3"]) == 0
    assert "the packed file gives the outputs of the trained network" in capsys.readouterr().out
    judged = []
    for path in (packed, run_folder):
        assert main(["evaluate", str(path), "--json", "--data", str(run_folder.parent / "book.txt")]) == 0
        judged.append(json.loads(capsys.readouterr().out)["bits_per_byte"])
    assert judged[0] == pytest.approx(judged[1], rel=0.02)
    assert main(["generate", str(packed), "It was", "--max-new-tokens", "40", "--temperature", "0"]) == 0
    text = capsys.readouterr().out
    # More tokens than the context holds: the text slides.
    assert text == "It was" + "".join(onebit.load(packed).generate("It was", 40, temperature=0)) + "\n"


@pytest.mark.parametrize("model", ["lstm", "gru"])
def test_images_are_read_line_by_line(tmp_path, model, capsys):
    keys = (
        "--image_size 8,8 --hidden 24 --scheme BinaryNormalized --epochs 4 --batch_size 32 --learning_rate 1e-2 --quiet"
    )
    assert main(["train", "digits", "--out", str(tmp_path / "run"), "--model", model, *keys.split()]) == 0
    assert load_run(tmp_path / "run").result()["test_accuracy"] > 0.5
    assert main(["pack", str(tmp_path / "run")]) == 0
    assert main(["verify", str(tmp_path / "run.onebit"), str(tmp_path / "run"), "--limit", "20"]) == 0
    session = onebit.load(tmp_path / "run.onebit")
    assert session(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)
