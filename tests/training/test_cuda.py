"""Training on a GPU: the CPU's losses, compiled with CUDA graphs or not, and resumed. Skipped where there is none."""

import pytest
import torch

from onebit.training import ImageRecipe, TextRecipe, load_run, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

IMAGES = ImageRecipe(
    data="digits", channels=1, widths=(6, 8), values="pm1", normalize="batch", epochs=3, train_limit=300, batch_size=32,
    learning_rate=4e-3, augment="crop-flip", threads=1, precision="float32",
)  # fmt: skip


@pytest.fixture
def text(tmp_path, cache):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    file = tmp_path / "song.txt"
    file.write_text("".join(" ".join(words[i % 10 :] + words[: i % 10]) + "\n" for i in range(600)))
    return TextRecipe(
        data=str(file), vocabulary=290, context=16, blocks=2, features=32, heads=2, head=(32,), logit_scale=3.0,
        epochs=3, epoch_steps=8, batch_size=8, learning_rate=2e-3, clip=1.0, threads=1, precision="bf16",
    )  # fmt: skip


def losses(run):
    return [row["train_loss"] for row in run.curves()]


def test_a_network_of_images_learns_as_on_the_cpu(tmp_path, monkeypatch):
    ours = losses(train(IMAGES, tmp_path / "gpu", progress=False))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ours == pytest.approx(losses(train(IMAGES, tmp_path / "cpu", progress=False)), rel=0.05)


def test_a_decoder_compiled_to_cuda_graphs_learns_as_uncompiled(tmp_path, text):
    eager = train(text, tmp_path / "eager", progress=False)
    graphs = train(text.override({"compile": True}), tmp_path / "graphs", progress=False)
    assert losses(graphs) == pytest.approx(losses(eager), rel=0.02)
    assert graphs.result()["validation_loss"] == pytest.approx(eager.result()["validation_loss"], rel=0.05)


@pytest.mark.parametrize("compile", [False, True])
def test_a_decoder_is_resumed_on_the_gpu(tmp_path, text, compile):
    recipe = text.override({"compile": compile, "decay": 24})
    whole = train(recipe, tmp_path / "whole", progress=False)
    train(recipe.override({"epochs": 2}), tmp_path / "parts", progress=False)
    parts = train(recipe, tmp_path / "parts", progress=False, resume=True)
    assert losses(parts) == pytest.approx(losses(whole), rel=0.02)
    assert next(load_run(tmp_path / "parts").model.parameters()).device.type == "cpu"
