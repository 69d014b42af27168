"""Training gives the numbers that it gave: losses of a few steps that an earlier version has recorded."""

import random

import pytest

from onebit.training import load_recipe, train

WORDS = ["the", "of", "bit", "one", "was", "night", "dark", "it", "and", "stormy", "sea", "ship"]
DECODER = {"blocks": 1, "features": 16, "heads": 2, "head": [16]}
PAPER = {"residual_scale": 0.35, "logit_scale": 3.0, "embedding_widening": 4, "head_widening": 2, "clip": 1.0}
PAPER |= {"embedding_spread": 0.1, "latent_spread": 0.25}
LSTM = {"blocks": 1, "features": 16, "hidden": 8, "head": [16]}
TEXT = {"vocabulary": 290, "context": 16, "epochs": 2, "epoch_steps": 4, "batch_size": 4, "warmup": 0}
IMAGES = {"epochs": 2, "train_limit": 96, "validation_share": 0, "warmup": 0}
SMALL = {**IMAGES, "model": "vgg", "image_size": [16, 16], "widths": [4, 8], "hidden": [8]}


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "song.txt"
    path.write_text("\n".join(" ".join(draw.choice(WORDS) for _ in range(9)) for _ in range(400)))
    return path


@pytest.mark.parametrize(
    ("name", "keys", "losses"),
    [
        ("digits", IMAGES, [2.1943, 1.4102]),
        ("digits", {**SMALL, "scheme": "XnorNet"}, [2.4387, 2.3528]),
        ("digits", {**SMALL, "binary": False, "model": "mlp"}, [2.2456, 2.0022]),
        ("tiny", TEXT | DECODER, [5.6538, 5.5489]),
        ("paper-tiny", TEXT | DECODER | PAPER, [7.3521, 5.5988]),
        ("lstm", TEXT | LSTM, [6.4807, 5.0639]),
    ],
)
def test_the_losses_of_a_few_steps(name, keys, losses, song, tmp_path):
    data = {"data": song} if load_recipe(name).to_dict()["kind"] == "text" else {}
    run = train(name, tmp_path / "a", progress=False, threads=1, precision="float32", **keys, **data)
    seen = [row["train_loss"] for row in run.curves()]
    # Sums of float32 in another order, on another processor, differ in their last digits, and a bit may flip by it.
    assert seen == pytest.approx(losses, rel=1e-2)
