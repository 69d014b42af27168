"""Gradual magnitude pruning of the last layer: its schedule by hand, what training leaves, resuming, and the packed file."""

import numpy as np
import pytest
import torch
from torch import nn

import onebit.training.callbacks as callbacks
from onebit.errors import OnebitError, RecipeError
from onebit.fileformat import load_model
from onebit.nn import BinaryLinear
from onebit.packing import pack
from onebit.runtime import reference
from onebit.training import ImageRecipe, train
from onebit.training.module import TrainingModule
from onebit.training.pruning import HeadPruning

PRUNED = ImageRecipe(
    data="digits", channels=1, image_size=(8, 8), model="mlp", scheme="BinaryConnect", hidden=(32,), epochs=4, train_limit=120, batch_size=40,
    learning_rate=4e-3, threads=1, precision="float32", head_share=0.2,
)  # fmt: skip


class Killed(Exception):
    pass


def head(run):
    return run.model.head[-1]


def test_the_schedule_is_that_of_the_paper():
    pruning = HeadPruning(nn.Linear(10, 100), 0.1, 0.2, 0.6, 1000)
    for progress in (0.0, 0.2, 0.3, 0.45, 0.6, 1.0):
        t = min(max(progress, 0.2), 0.6)
        sparsity = 0.9 + (0.0 - 0.9) * (1 - (t - 0.2) / 0.4) ** 3
        assert pruning.kept(progress) == round(1000 * (1 - sparsity))


def test_the_smallest_weights_go_and_stay_away():
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -1, 3, 0.5], [-8, 2, -6, 7]]))
    pruning = HeadPruning(layer, 0.5, 0.0, 0.5, 2)
    pruning.after_step(1, pruning.pruned())
    expected = torch.tensor([[4.0, 0, 0, 0], [-8, 0, -6, 7]])
    assert layer.weight.equal(expected)
    assert pruning.done
    before = pruning.pruned()
    with torch.no_grad():
        layer.weight.add_(1)
    pruning.after_step(2, before)
    assert layer.weight.equal(torch.where(expected == 0, 0.0, expected + 1))


def test_training_prunes_the_last_layer_and_packs_it_sparse(tmp_path):
    run = train(PRUNED, tmp_path / "run", progress=False)
    weight = head(run).weight.detach().numpy()
    assert np.count_nonzero(weight) == round(0.2 * weight.size)
    report = pack(run.model, tmp_path / "a.onebit", run.task)
    packed = load_model(tmp_path / "a.onebit")
    step = next(step for step in packed.program.steps if step.op == "sparse_linear")
    assert step.attributes["kept"] == packed.tensors[step.tensors["weight"]].size == round(0.2 * weight.size)
    assert any(kept.reason == "a pruned float layer" for kept in report.kept_float)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    x = (pixels.astype(np.float32) / 255 - np.array(run.task.mean)) / np.array(run.task.std)
    expected = run.model(torch.tensor(x.astype(np.float32)).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(
        reference.run(packed.program, packed.tensors, pixels, "float32"), expected, rtol=1e-4, atol=1e-5
    )


def test_a_resumed_run_prunes_what_a_whole_one_does(tmp_path, monkeypatch):
    whole = train(PRUNED, tmp_path / "whole", progress=False)
    original = callbacks.Curves.on_train_epoch_end

    def die(self, trainer, pl_module):
        original(self, trainer, pl_module)
        if trainer.current_epoch == 2:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(callbacks.Curves, "on_train_epoch_end", die)
        train(PRUNED, tmp_path / "parts", progress=False)
    resumed = train(PRUNED, tmp_path / "parts", resume=True, progress=False)
    assert head(resumed).weight.equal(head(whole).weight)


def test_an_epoch_before_the_end_of_the_pruning_is_not_the_best(tmp_path):
    run = train(PRUNED.override({"validation_share": 0.2, "head_pruning_ends": 1.0}), tmp_path / "run", progress=False)
    assert run.epochs == PRUNED.schedule.epochs


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 4), BinaryLinear(4, 3)), "is of type BinaryLinear: use a network whose last layer stays float"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), "is of type Conv2d: needs one of type Linear"),
        (nn.ReLU(), "is of type ReLU"),
    ],
)  # fmt: skip
def test_a_network_without_a_float_head_is_refused(model, words):
    with pytest.raises(OnebitError, match=words):
        TrainingModule(model, PRUNED, 3)


def test_a_head_that_is_an_embedding_too_is_refused():
    tied = nn.Linear(16, 7)
    model = nn.Sequential(nn.Embedding(7, 16), tied)
    tied.weight = model[0].weight
    with pytest.raises(OnebitError, match="shares its weights with another layer"):
        TrainingModule(model, PRUNED, 3)


def test_pruning_that_ends_before_it_begins_is_refused():
    with pytest.raises(RecipeError, match="head_pruning_begins=0.8: use less than head_pruning_ends"):
        PRUNED.override({"head_pruning_begins": 0.8})
