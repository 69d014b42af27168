"""Batches with mixed and smoothed labels: their formulas, their shares between processes, and a training with them."""

import numpy as np
import pytest
import torch

import onebit
from onebit.data import ImageSet
from onebit.errors import RecipeError
from onebit.training.batches import Batches, Part, mix_pixels, smooth
from onebit.training.jobs import build_model
from onebit.training.module import TrainingModule
from onebit.training.objective import Objective
from onebit.training.recipe import load_recipe


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (23, 8, 8, 3), np.uint8)
    return ImageSet(pixels, random.integers(0, 4, 23), ("a", "b", "c", "d"))


def batches(images, **options):
    return list(Batches(images, 5, seed=3, epoch=2, **options))


def test_smoothed_labels_are_distributions():
    rows = smooth(np.array([2, 0]), 4, 0.2)
    assert rows == pytest.approx(np.array([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.77, 1.0])
def test_mixed_pixels_are_the_weighted_mean(share):
    random = np.random.default_rng(1)
    ours, theirs = random.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    ours[0], theirs[0] = 255, 255
    mean = (1 - share) * ours.astype(float) + share * theirs
    assert np.abs(mix_pixels(ours, theirs, share) - mean).max() <= 1.0


def test_each_image_is_mixed_with_the_next_of_its_batch(images):
    plain = batches(images)
    for (pixels, labels), (before, hard) in zip(batches(images, mixup=0.4), plain, strict=True):
        share = 1 - labels[torch.arange(len(hard)), hard].min().item()
        assert labels.sum(1) == pytest.approx(np.ones(len(hard)))
        expected = (1 - share) * before + share * before.roll(-1, 0)
        assert (pixels - expected).abs().max() <= 1.5
        one_hot = torch.eye(4)
        assert torch.allclose(labels, (1 - share) * one_hot[hard] + share * one_hot[hard.roll(-1)], atol=1e-6)


def test_shares_of_processes_make_the_whole_batch(images):
    options = {"augment": "crop-flip", "mixup": 0.4, "smoothing": 0.1}
    halves = [batches(images, part=Part(rank, 2), **options) for rank in range(2)]
    for whole, *parts in zip(batches(images, **options), *halves, strict=True):
        assert torch.equal(whole[0], torch.cat([part[0] for part in parts]))
        assert torch.equal(whole[1], torch.cat([part[1] for part in parts]))


def test_resuming_within_an_epoch_gives_the_same_batches(images):
    options = {"augment": "crop-flip", "mixup": 0.4}
    rest = batches(images, part=Part(first=2), **options)
    for (pixels, labels), (ours, mine) in zip(batches(images, **options)[2:], rest, strict=True):
        assert torch.equal(pixels, ours) and torch.equal(labels, mine)


def test_loss_of_distributions_is_their_cross_entropy():
    logits, target = torch.randn(6, 4), torch.rand(6, 4).softmax(1)
    count = torch.tensor(6)
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert Objective().loss(logits, target, count) == pytest.approx(expected.item())
    hard = torch.tensor([0, 3, 1, 1, 2, 0])
    soft = torch.eye(4)[hard]
    assert Objective().loss(logits, soft, count) == pytest.approx(Objective().loss(logits, hard, count).item())
    none = Objective().loss(logits[:0], target[:0], torch.tensor(0), whole=False)
    assert none == 0


def test_a_network_trains_on_mixed_labels_by_sgd_and_its_teacher_too(tmp_path):
    keys = {"train_limit": 200, "epochs": 4, "widths": (8, 8), "progress": False, "threads": 1, "mixup": 0.3}
    keys |= {"optimizer": "sgd", "learning_rate": 0.1, "label_smoothing": 0.1}
    teacher = onebit.train("digits", tmp_path / "float", binary=False, **keys)
    run = onebit.train("digits", tmp_path / "bits", teacher=tmp_path / "float", **keys)
    first, *_, last = run.curves()
    # A loss of smoothed labels cannot fall below their entropy.
    assert 0.5 < last["train_loss"] < first["train_loss"]
    assert 0 < last["train_accuracy"] <= 1 and teacher.result()["test_images"] == 359


def test_sgd_has_nesterovs_momentum_and_decay():
    recipe = load_recipe("digits").override({"optimizer": "sgd", "momentum": 0.8, "weight_decay": 1e-3})
    task = onebit.ImageTask(labels=("a", "b"), image_size=(8, 8), channels=1)
    module = TrainingModule(build_model(recipe, task), recipe, 10)
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.8, True, 1e-3)


@pytest.mark.parametrize("key", [{"mixup": -1}, {"label_smoothing": 1}, {"momentum": 1}])
def test_errors(key):
    with pytest.raises(RecipeError, match=next(iter(key))):
        load_recipe("cifar10").override(key)
