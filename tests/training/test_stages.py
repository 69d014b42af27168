"""Two stages of training, starting from a float network, and that all of it resumes exactly."""

import pytest
import torch
from torch import nn

import onebit.training.callbacks as callbacks
from onebit.errors import OnebitError, RecipeError
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.nn.binary import binary_layers
from onebit.schemes import BinaryNet, XnorNet
from onebit.training import ImageRecipe, load_run, train
from onebit.training.module import TrainingModule
from onebit.training.warm_start import warm_start

TINY = ImageRecipe(
    data="digits", channels=1, model="vgg", scheme="BinaryNet", widths=(6, 8), hidden=(16,), epochs=4, train_limit=120,
    batch_size=40, learning_rate=4e-3, threads=1, precision="float32",
)  # fmt: skip


def state(run):
    return {key: value.clone() for key, value in run.model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def float_run(tmp_path_factory):
    recipe = TINY.override({"binary": False, "epochs": 2})
    return train(recipe, tmp_path_factory.mktemp("runs") / "float", progress=False)


@pytest.mark.parametrize("scheme", [BinaryNet(), XnorNet()])
def test_float_weights_are_the_latents_and_inputs_stay_signs(scheme):
    torch.manual_seed(0)
    layer, x = BinaryConv2d(2, 3, 3, scheme=scheme), torch.randn(1, 2, 5, 5)
    binary = layer(x)
    layer.float_weights = True
    plain = layer(x)
    assert not torch.allclose(plain, binary)
    signs = torch.where(x >= 0, 1.0, -1.0)
    scale = 1.0
    if scheme.input_scale:
        scale = nn.functional.avg_pool2d(x.abs().mean(1, keepdim=True), 3, 1)
    torch.testing.assert_close(plain, nn.functional.conv2d(signs, layer.weight) * scale + layer.bias.view(-1, 1, 1))


def test_the_first_stage_keeps_weights_float_and_the_second_has_bits(tmp_path, monkeypatch):
    seen = []
    original = callbacks.Curves.on_train_epoch_end

    def watch(self, trainer, pl_module):
        adam = next(iter(pl_module.optimizers(use_pl_optimizer=False).state.values()))
        kinds = {layer.float_weights for layer in pl_module.layers.values()}
        seen.append((trainer.current_epoch, kinds, int(adam["step"])))
        original(self, trainer, pl_module)

    monkeypatch.setattr(callbacks.Curves, "on_train_epoch_end", watch)
    # 3 steps an epoch; the optimiser knows nothing of the first stage in the second
    run = train(TINY.override({"first_stage_epochs": 2}), tmp_path / "a", progress=False)
    assert seen == [(0, {True}, 3), (1, {True}, 6), (2, {False}, 3), (3, {False}, 6)]
    assert all(not layer.float_weights for layer in binary_layers(run.model).values())


def test_the_best_epoch_is_one_of_the_second_stage(tmp_path, monkeypatch):
    right = iter([9.0, 8.0, 5.0, 4.0])  # of ten: float weights are better
    original = TrainingModule.on_validation_epoch_end

    def end(self):
        self._sums["val"] = torch.tensor([1.0, next(right), 10.0])
        original(self)

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", end)
    run = train(TINY.override({"first_stage_epochs": 2, "validation_share": 0.2}), tmp_path / "a", progress=False)
    assert run.epochs == 3
    assert [row["val_accuracy"] for row in run.curves()] == [0.9, 0.8, 0.5, 0.4]


def test_each_stage_has_a_schedule_of_its_own():
    recipe = ImageRecipe(epochs=10, first_stage_epochs=4, warmup=5)
    module = TrainingModule(nn.Linear(1, 1), recipe, 10)
    rates = [module._rate(step) for step in range(101)]
    alone = TrainingModule(nn.Linear(1, 1), ImageRecipe(epochs=4, warmup=5), 10)
    assert rates[:40] == [alone._rate(step) for step in range(40)]
    alone = TrainingModule(nn.Linear(1, 1), ImageRecipe(epochs=6, warmup=5), 10)
    assert rates[40:] == [alone._rate(step) for step in range(61)]


def test_a_float_networks_weights_become_latents(float_run, tmp_path, capsys):
    recipe = TINY.override({"warm_start": str(float_run.path), "learning_rate": 1e-9, "epochs": 1})
    run = train(recipe, tmp_path / "a")
    ours, theirs = state(run), state(float_run)
    weights = [key for key in ours if key.endswith(".weight")]
    assert len(weights) > 5
    for key in weights:
        torch.testing.assert_close(ours[key], theirs[key], atol=1e-6, rtol=0)
    assert f"note: {len(ours)} of {len(ours)} tensors start from {float_run.path}\n" in capsys.readouterr().err


def test_what_is_not_found_is_told(float_run, tmp_path, capsys):
    recipe = TINY.override({"warm_start": str(float_run.path), "hidden": [12], "epochs": 1})
    train(recipe, tmp_path / "a")
    line = capsys.readouterr().err.splitlines()[0]
    assert "; not there, or of another shape: head.1.weight, head.1.bias, head.2.weight" in line
    assert "features.0.weight" not in line


def test_statistics_of_batch_normalisations_are_copied_and_other_shapes_left():
    torch.manual_seed(0)
    source = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    source[1].running_mean.fill_(2)
    model = nn.Sequential(
        BinaryConv2d(1, 4, 3, scheme=BinaryNet()),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        BinaryLinear(16, 5, scheme=BinaryNet()),
    )
    before = model[3].weight.detach().clone()
    assert warm_start(model, source.state_dict()) == ["3.weight", "3.bias"]
    assert torch.equal(model[0].weight, source[0].weight)
    assert torch.equal(model[1].running_mean, torch.full((4,), 2.0))
    assert torch.equal(model[3].weight, before)


def test_a_run_of_which_nothing_fits_is_refused(float_run, tmp_path):
    recipe = TINY.override({"warm_start": str(float_run.path), "widths": [5, 7], "hidden": [9]})
    with pytest.raises(OnebitError, match=r"\[warm_start .*\] no weight of this network is there by name and shape"):
        train(recipe, tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()


class Stopped(Exception):
    pass


def interrupted(recipe, path, epoch, monkeypatch):
    """Train until an epoch begins, and then stop as if the power failed."""
    original = callbacks.Curves.on_train_epoch_start

    def stop(self, trainer, pl_module):
        if trainer.current_epoch == epoch:
            raise Stopped
        original(self, trainer, pl_module)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Curves, "on_train_epoch_start", stop)
        with pytest.raises(Stopped):
            train(recipe, path, progress=False)
    assert load_run(path).epochs == epoch


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "bop", "bop_gamma": 1e-2, "bop_threshold": 1e-6},
        {"optimizer": "muon", "muon_steps": 3, "weight_decay": 0.1, "weight_decay_until": 0.6},
        {"pull": 1e-3},
        {"first_stage_epochs": 2, "warmup": 2},
        {"first_stage_epochs": 1},
        {"first_stage_epochs": 3, "scheme": "NormFree", "model": "resnet8", "width": 0.25},
        {"teacher": "", "warm_start": "", "distill_features": ["features.2"], "scheme": "XnorNet"},
    ],
    ids=lambda keys: " ".join(keys),
)
def test_resuming_gives_what_an_uninterrupted_run_gives(float_run, tmp_path, monkeypatch, keys):
    keys = {key: str(float_run.path) if value == "" else value for key, value in keys.items()}
    recipe = TINY.override(keys)
    whole = train(recipe, tmp_path / "whole", progress=False)
    interrupted(recipe, tmp_path / "parts", 2, monkeypatch)
    resumed = train(recipe, tmp_path / "parts", resume=True, progress=False)
    assert equal(state(resumed), state(whole))
    for ours, theirs in zip(resumed.curves(), whole.curves(), strict=True):
        assert {k: v for k, v in ours.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


def test_bop_learns_from_a_recipe(tmp_path):
    keys = {"optimizer": "bop", "bop_gamma": 1e-2, "bop_threshold": 1e-6, "train_limit": None, "epochs": 3}
    run = train(TINY.override({**keys, "widths": [12, 16]}), tmp_path / "a", progress=False)
    assert run.result()["test_accuracy"] > 0.5  # a tenth by chance
    for layer in binary_layers(run.model).values():
        assert layer.weight.abs().eq(1).all()


def test_bop_on_a_network_without_fitting_bits_leaves_no_folder(tmp_path):
    for scheme in ("BinaryNormalized", "NormFree"):
        with pytest.raises(OnebitError, match=rf"\[Bop\] .*: {scheme} does not take the sign"):
            train(TINY.override({"optimizer": "bop", "scheme": scheme}), tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"first_stage_epochs": 10}, "first_stage_epochs=10: use fewer than epochs"),
        ({"first_stage_epochs": -1}, "first_stage_epochs=-1: use 0 or more"),
        ({"first_stage_epochs": 1, "binary": False}, "first_stage_epochs=1: use it with binary=true only"),
        ({"first_stage_epochs": 1, "optimizer": "bop"}, "first_stage_epochs=1: use optimizer=adam with it"),
    ],
)
def test_wrong_keys_are_named(keys, message):
    with pytest.raises(RecipeError) as raised:
        ImageRecipe().override(keys, "here")
    assert message in str(raised.value)
