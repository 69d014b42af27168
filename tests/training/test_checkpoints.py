"""Checkpoints that do not fit or cannot be written: one line, and what was there stands."""

import resource
import shutil
import subprocess
import sys

import pytest
import torch

from onebit.errors import OnebitError
from onebit.training import ImageRecipe, load_run, train

TINY = ImageRecipe(
    data="digits", channels=1, model="mlp", scheme="BinaryNet", hidden=(16,), epochs=1, train_limit=60, batch_size=20, threads=1,
    precision="float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(TINY, tmp_path_factory.mktemp("runs") / "a", progress=False).path


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def edit(run, change):
    file = run / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["state_dict"].update({"model.extra": torch.zeros(2)}), r"extra is \(2,\) there and nothing here"),
        (lambda c: c["state_dict"].pop(next(iter(c["state_dict"]))), r"is nothing there and \(.*\) here: resume with"),
        (lambda c: c.update(batches_per_epoch=7), "of other data: an epoch had 7 batches, and has 3"),
        (lambda c: c.pop("state_dict"), "damaged, or no checkpoint of 'onebit train'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_what_does_not(run, change, message):
    edit(run, change)
    with pytest.raises(OnebitError, match=message) as caught:
        train(TINY.override({"epochs": 2}), run, resume=True, progress=False)
    assert "\n" not in str(caught.value)


def test_a_run_is_not_resumed_to_an_earlier_end(run):
    train(TINY.override({"epochs": 2}), run, resume=True, progress=False)
    with pytest.raises(OnebitError, match=r"is of epoch 2, and epochs=1: resume with epochs=2 or more"):
        train(TINY, run, resume=True, progress=False)
    assert load_run(run).recipe.schedule.epochs == 2


def test_a_checkpoint_of_another_shape_or_none_at_all_is_refused(run, tmp_path):
    other = train(TINY.override({"hidden": [24]}), tmp_path / "other", progress=False)
    shutil.copy(other.path / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")
    with pytest.raises(OnebitError, match=r"is of another network: .* is \(24,.*\) there and \(16,.*\) here"):
        train(TINY.override({"epochs": 2}), run, resume=True, progress=False)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(OnebitError, match="damaged, or no checkpoint"):
        train(TINY.override({"epochs": 2}), run, resume=True, progress=False)


def test_steps_between_checkpoints_are_one_or_more(tmp_path):
    with pytest.raises(OnebitError, match="checkpoint_steps=0: use 1 or more"):
        train(TINY, tmp_path / "a", progress=False, checkpoint_steps=0)


def test_a_full_disk_leaves_the_checkpoint_before(run):
    # No file of this process may grow beyond three quarters of a checkpoint; the system refuses the rest, as a full disk does.
    last = run / "checkpoints" / "last.ckpt"
    before, size = last.read_bytes(), last.stat().st_size * 3 // 4
    words = [sys.executable, "-m", "onebit", "train", str(run / "recipe.yaml"), "--out", str(run)]
    words += ["--epochs", "2", "--resume", "--quiet"]
    done = subprocess.run(
        words,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    assert done.returncode == 1
    assert "the checkpoint cannot be written (File too large); the one before it stands: make room" in done.stderr
    assert done.stderr.count("\n") == 1
    assert last.read_bytes() == before
    assert [entry.name for entry in last.parent.iterdir()] == ["last.ckpt"]
    assert load_run(run).epochs == 1
