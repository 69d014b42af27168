"""Training learns, repeats itself, resumes exactly, and stops cleanly."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import onebit
from onebit.data import load_images
from onebit.errors import DataError, OnebitError, RecipeError
from onebit.images import ImageTask
from onebit.training import ImageRecipe, evaluate, load_run, train
from onebit.training.batches import Batches, Part, draw_moves, move_images, scale_pixels
from onebit.training.precision import computes_in_bf16
from onebit.training.sources import check_same

TINY = ImageRecipe(
    data="digits", channels=1, widths=(6, 8), values="pm1", normalize="batch", epochs=3, train_limit=300, batch_size=32,
    learning_rate=4e-3, augment="crop-flip", threads=1, precision="float32",
)  # fmt: skip


def state(run):
    return {key: value.clone() for key, value in run.model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(TINY, tmp_path_factory.mktemp("run") / "a", progress=False)


def test_a_run_folder_is_complete(trained):
    names = {entry.name for entry in trained.path.iterdir()}
    assert {
        "recipe.yaml",
        "task.json",
        "versions.json",
        "curves.csv",
        "result.json",
        "checkpoints",
        "tensorboard",
    } <= names
    assert [row["epoch"] for row in trained.curves()] == [1, 2, 3]
    assert trained.curves()[-1]["train_loss"] < trained.curves()[0]["train_loss"]
    assert any("tfevents" in entry.name for entry in (trained.path / "tensorboard").iterdir())
    result = trained.result()
    assert (result["test_images"], result["train_images"], result["chosen_epoch"]) == (359, 300, 3)
    test = load_images("digits", channels=1).test
    assert result["test_accuracy"] == evaluate(trained.model, test, trained.task).figures()["accuracy"]


def test_it_learns(tmp_path):
    recipe = TINY.override({"epochs": 8, "train_limit": None, "augment": "none", "widths": [12, 16]})
    assert train(recipe, tmp_path / "a", progress=False).result()["test_accuracy"] > 0.6  # a tenth by chance


@pytest.mark.parametrize(
    "keys", [{"binary": False}, {"binary": False, "batch_norm": True}, {"normalize": "channel", "values": "01"}]
)
def test_twins_and_the_papers_way_train_by_the_same_command(tmp_path, keys):
    run = train(TINY.override(keys | {"epochs": 2}), tmp_path / "a", progress=False)
    assert run.curves()[1]["train_loss"] < run.curves()[0]["train_loss"]


def test_a_seed_gives_the_same_network_and_another_seed_another(trained, tmp_path):
    again = train(TINY, tmp_path / "b", progress=False)
    assert equal(state(again), state(trained))
    other = train(TINY.override({"seed": 1}), tmp_path / "c", progress=False)
    assert not equal(state(other), state(trained))


def test_resuming_gives_what_an_uninterrupted_run_gives(tmp_path):
    # With dropout (the float twin), augmentation and a schedule: everything that could go another way.
    recipe = TINY.override({"binary": False, "epochs": 4, "warmup": 5})
    whole = train(recipe, tmp_path / "whole", progress=False)

    class Stopped(Exception):
        pass

    import onebit.training.callbacks as callbacks

    original = callbacks.Curves.on_train_epoch_start

    def stop(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise Stopped
        original(self, trainer, pl_module)

    callbacks.Curves.on_train_epoch_start = stop
    try:
        with pytest.raises(Stopped):
            train(recipe, tmp_path / "parts", progress=False)
    finally:
        callbacks.Curves.on_train_epoch_start = original
    assert load_run(tmp_path / "parts").epochs == 2
    resumed = train(recipe, tmp_path / "parts", resume=True, progress=False)
    assert equal(state(resumed), state(whole))
    for ours, theirs in zip(resumed.curves(), whole.curves(), strict=True):
        assert {k: v for k, v in ours.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "onebit",
        "train",
        "digits",
        "--out",
        str(out),
        "--epochs",
        "1000",
        "--widths",
        "4,4",
        "--precision",
        "float32",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (out / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "--resume" in error
    assert load_run(out).epochs >= 1


def test_best_is_chosen_on_validation_images(tmp_path):
    run = train(TINY.override({"validation_share": 0.2}), tmp_path / "a", progress=False)
    accuracies = [row["val_accuracy"] for row in run.curves()]
    assert run.epochs == accuracies.index(max(accuracies)) + 1
    assert load_run(run.path, "last").epochs == 3


def test_a_loss_that_is_no_number_stops_with_its_step(tmp_path):
    with pytest.raises(OnebitError, match=r"the loss is (nan|inf) at step \d+ \(epoch \d\): use a lower learning_rate"):
        train(TINY.override({"learning_rate": 1e30, "binary": False}), tmp_path / "a", progress=False)


def test_a_device_that_computes_ahead_stops_for_the_same_step(tmp_path, monkeypatch):
    said = []
    for ahead in (1, 4):
        monkeypatch.setattr("onebit.training.module.steps_unseen", lambda device, ahead=ahead: ahead)
        with pytest.raises(OnebitError) as caught:
            train(
                TINY.override({"binary": False, "learning_rate": 1e30, "warmup": 0}),
                tmp_path / str(ahead),
                progress=False,
            )
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "the loss is" in said[0]
    # and a run whose numbers are all finite is the same
    monkeypatch.setattr("onebit.training.module.steps_unseen", lambda device: 4)
    ahead = state(train(TINY, tmp_path / "ahead", progress=False))
    monkeypatch.setattr("onebit.training.module.steps_unseen", lambda device: 1)
    assert equal(ahead, state(train(TINY, tmp_path / "each", progress=False)))


def test_folders_that_are_in_use_are_refused(trained, tmp_path):
    with pytest.raises(OnebitError, match="is not empty: go on with --resume"):
        train(TINY, trained.path, progress=False)
    with pytest.raises(OnebitError, match="another recipe"):
        train(TINY.override({"seed": 5}), trained.path, resume=True, progress=False)
    with pytest.raises(OnebitError, match="holds no run to resume"):
        train(TINY, tmp_path / "new", resume=True, progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(OnebitError, match="is a file"):
        train(TINY, tmp_path / "file", progress=False)


def test_a_scheme_in_other_words_is_the_same_recipe(tmp_path):
    old = TINY.override({"threshold": "output", "latent_spread": 0.25})  # as version 0.1.0 wrote Bipolar
    check_same(old, TINY.override({"scheme": "Bipolar"}), tmp_path, ())
    with pytest.raises(OnebitError, match="another recipe: threshold='output', and not 'layer'"):
        check_same(old, TINY.override({"threshold": "layer"}), tmp_path, ())


def test_images_that_are_too_small_are_refused(tmp_path):
    with pytest.raises(OnebitError, match="images of 8x8 are too small .* use 16x16 or more"):
        train(TINY.override({"widths": [4, 4, 4, 4, 4]}), tmp_path / "a", progress=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "checkpoints" / "last.ckpt").write_bytes(b"nothing"), "damaged, or of another recipe"),
        (lambda p: (p / "checkpoints" / "last.ckpt").unlink(), "no checkpoint yet"),
        (lambda p: (p / "task.json").write_text("{}"), "damaged"),
        (lambda p: (p / "recipe.yaml").unlink(), "not a run folder"),
    ],
)
def test_damaged_runs_are_named(trained, tmp_path, damage, message):
    import shutil

    shutil.copytree(trained.path, tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(OnebitError, match=message) as caught:
        load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_with_code_in_it_is_never_run(trained, tmp_path):
    import pickle
    import shutil

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    shutil.copytree(trained.path, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(OnebitError):
        load_run(tmp_path / "run")
    assert not (tmp_path / "owned").exists()


def test_batches_hold_every_image_once_in_an_order_of_the_epoch():
    images = load_images("digits", channels=1).test

    def labels(epoch):
        return torch.cat([target for _, target in Batches(images, 50, seed=3, epoch=epoch)])

    assert torch.equal(labels(1), labels(1))
    assert not torch.equal(labels(1), labels(2))
    assert torch.equal(labels(1).sort().values, torch.tensor(images.labels).sort().values)
    assert torch.equal(torch.cat([target for _, target in Batches(images, 50)]), torch.tensor(images.labels))


def test_parts_make_up_the_batches_whatever_comes_before_them_or_beside_them():
    images = load_images("digits", channels=1).test

    def batches(part):
        return list(Batches(images, 51, "crop-flip", seed=3, epoch=1, part=part))

    whole = batches(Part())
    parts = [batches(Part(rank, 50, first=2)) for rank in range(50)]
    for number, (x, target) in enumerate(whole[2:]):
        assert torch.equal(torch.cat([part[number][0] for part in parts]), x)
        assert torch.equal(torch.cat([part[number][1] for part in parts]), target)
        assert {part[number][2] for part in parts} == {(len(target), len(target))}
    assert len(parts[0]) == len(whole) - 2
    assert len(whole[-1][1]) < 50  # some have none of it


def test_pixels_are_scaled_as_the_task_says():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    task = ImageTask(("a",), (3, 4), 3, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = (pixels / 255 - np.array(task.mean)) / np.array(task.std)
    x = scale_pixels(pixels, task)
    assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(x.permute(0, 2, 3, 1), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(scale_pixels(torch.from_numpy(pixels), task), x)
    pixels.flags.writeable = False  # as those are that lie decoded in the cache
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(scale_pixels(pixels, task), x)


def test_augmented_images_are_shifted_or_mirrored_copies():
    pixels = np.random.default_rng(0).integers(1, 256, (64, 16, 16, 1), np.uint8)
    random = np.random.default_rng(1)
    flipped = move_images(pixels, draw_moves("flip", 64, 16, 16, random))
    mirrored = [np.array_equal(f, p[:, ::-1]) for f, p in zip(flipped, pixels, strict=True)]
    assert 10 < sum(mirrored) < 54
    assert all(m or np.array_equal(f, p) for m, f, p in zip(mirrored, flipped, pixels, strict=True))
    cropped = move_images(pixels, draw_moves("crop-flip", 64, 16, 16, random))
    assert cropped.shape == pixels.shape
    for image, source in zip(cropped, pixels, strict=True):
        centre = image[2:-2, 2:-2, 0]
        windows = np.lib.stride_tricks.sliding_window_view(source[..., 0], (12, 12)).reshape(-1, 12, 12)
        assert any(np.array_equal(centre, w) or np.array_equal(centre, w[:, ::-1]) for w in windows)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_learning_rate_rises_and_falls_as_the_recipe_says(schedule):
    from onebit.training.module import TrainingModule

    recipe = ImageRecipe(epochs=10, warmup=4, schedule=schedule)
    module = TrainingModule(torch.nn.Linear(1, 1), recipe, 10)
    rates = [module._rate(step) for step in range(101)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1]
    assert max(rates) == 1
    assert rates[100] == pytest.approx(1 if schedule == "constant" else 0)
    assert all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False))


@pytest.mark.parametrize(
    ("vendor", "flags", "faster"),
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", True),
        ("AuthenticAMD", "avx2 fma", False),
    ],
)
def test_bfloat16_is_chosen_where_it_is_faster(vendor, flags, faster):
    assert computes_in_bf16(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n") == faster


def test_a_recipe_by_its_name_with_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"train_limit": 20, "image_size": (8, 8), "widths": (4,), "threads": 1, "epochs": 1}
    run = onebit.train("digits", progress=False, **keys)
    assert run.path == Path("runs/digits")
    assert (run.recipe.data.train_limit, run.recipe.model.widths) == (20, (4,))
    result = run.result()
    assert run.to_dict()["result"] == result
    assert run.to_dict()["recipe"]["kind"] == "images"
    assert f"accuracy {100 * result['test_accuracy']:.2f} % on {result['test_images']} test images" in str(run)
    (run.path / "result.json").unlink()
    assert str(run) == "runs/digits: not finished (epoch 1 of 1)"


def test_keys_and_folders_that_are_none(tmp_path):
    with pytest.raises(RecipeError, match=r"^\[train\] unknown key 'epoch'; did you mean 'epochs'"):
        onebit.train("digits", tmp_path / "a", epoch=1)
    with pytest.raises(DataError, match="there is no such data set"):
        onebit.train("images", tmp_path / "a", data=tmp_path / "nothing", progress=False)
    with pytest.raises(OnebitError, match=r"^\[train\] out=None: give the run folder"):
        train(ImageRecipe())


@pytest.mark.parametrize("recipe", [None, 5, {"epochs": 1}, ImageRecipe, np.zeros(3)])
def test_a_recipe_that_is_none(recipe, tmp_path):
    with pytest.raises(OnebitError, match=r"^\[train\] recipe is of type \w+: give an ImageRecipe"):
        train(recipe, tmp_path / "a", progress=False)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"devices": value} for value in (1.5, "1", None, True, np.zeros(2))),
        *({"nodes": value} for value in (1.5, None, np.zeros(2))),
        *({"checkpoint_steps": value} for value in (1.5, "3", True, np.zeros(2))),
        *({"strategy": value} for value in (None, np.zeros(3), [])),
        *({key: value} for key in ("resume", "progress") for value in (np.zeros(3), None, "x")),
    ],
)
def test_arguments_of_other_types(arguments, tmp_path):
    key = next(iter(arguments))
    with pytest.raises(OnebitError, match=rf"^\[train\] {key}=.*: use ") as caught:
        train(ImageRecipe(), tmp_path / "a", **({"progress": False} | arguments))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("side", [64, 128, 300])
def test_images_that_alexnet_does_not_take_are_refused(tmp_path, side):
    with pytest.raises(OnebitError, match=f"images of {side}x{side} do not fit alexnet: use --image-size 224,224"):
        keys = {"model": "alexnet", "scheme": "XnorNet", "image_size": side, "train_limit": 10, "width": 0.05}
        train(TINY.override(keys), tmp_path / "a", progress=False)
