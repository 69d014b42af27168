"""The figures of each layer, against counts by hand."""

import csv

import pytest
import torch
from torch import nn

import onebit.training.callbacks as callbacks
from onebit.nn import BinaryConv1d, BinaryConv2d, BinaryEmbedding, BinaryLinear
from onebit.nn.binary import binary_layers
from onebit.quantizers import KBitActivations, Sign
from onebit.quantizers.gradients import CLIPPED, IDENTITY, Polynomial
from onebit.schemes import SCHEMES, BinaryConnect, BitNet, NormFree, Scheme
from onebit.training import ImageRecipe, load_run, train
from onebit.training.measures import SAMPLED_BITS, input_gradient, sampled_bits, weight_gradient

TINY = ImageRecipe(
    data="digits", channels=1, model="vgg", scheme="BinaryNet", widths=(6, 8), hidden=(16,), epochs=3, train_limit=120,
    batch_size=10, learning_rate=1e-1, threads=1, precision="float32",
)  # fmt: skip


def rows_of(path):
    with (path / "layers.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and the latents of its layers before the first epoch and after each."""
    latents = []

    def note(module):
        latents.append({name: layer.weight.detach().clone() for name, layer in module.layers.items()})

    with pytest.MonkeyPatch.context() as patch:
        start, end = callbacks.Curves.on_train_start, callbacks.Curves.on_train_epoch_end
        patch.setattr(callbacks.Curves, "on_train_start", lambda c, t, m: (note(m), start(c, t, m)))
        patch.setattr(callbacks.Curves, "on_train_epoch_end", lambda c, t, m: (note(m), end(c, t, m)))
        run = train(TINY, tmp_path_factory.mktemp("runs") / "a", progress=False)
    return run, latents


def test_a_run_has_a_row_for_each_layer_and_epoch(trained):
    run, _ = trained
    names = list(binary_layers(run.model))
    assert [(row["epoch"], row["layer"]) for row in rows_of(run.path)] == [
        (str(epoch), name) for epoch in (1, 2, 3) for name in names
    ]


def test_shares_are_what_counting_by_hand_gives(trained):
    run, latents = trained
    flips, clips = [], []
    for row in rows_of(run.path):
        before, after = (latents[int(row["epoch"]) + d][row["layer"]].flatten().tolist() for d in (-1, 0))
        ones = sum(v >= 0 for v in after) / len(after)
        flipped = sum((a >= 0) != (b >= 0) for a, b in zip(before, after, strict=True)) / len(after)
        clipped = sum(abs(v) >= 1 for v in after) / len(after)
        assert float(row["ones"]) == pytest.approx(ones, rel=1e-5)
        assert float(row["flipped"]) == pytest.approx(flipped, rel=1e-5)
        assert float(row["clipped"]) == pytest.approx(clipped, rel=1e-5)
        assert row["weight_gradient"] == "1"  # BinaryNet's weights have the identity
        assert row["input_gradient"] == "1"  # a hard tanh stands in front, which has none where it is at its limits
        flips.append(flipped)
        clips.append(clipped)
    assert max(flips) > 0.01
    assert max(clips) > 0


def test_the_gradient_of_inputs_is_counted_where_it_is_made():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 5)
    layer = BinaryConv2d(3, 2, 3, scheme=Scheme(activations=Sign(CLIPPED), input_shift=True))
    nn.init.constant_(layer.threshold, 0.5)
    expected = ((x - 0.5).abs() <= 1).float().mean().item()
    assert input_gradient(layer, x) == pytest.approx(expected, abs=1e-6)
    rows = torch.randn(100, 3)
    levels = BinaryLinear(3, 2, scheme=Scheme(activations=KBitActivations(2)))
    assert input_gradient(levels, rows) == pytest.approx(((rows[:16] >= 0) & (rows[:16] <= 1)).float().mean().item())
    plain = BinaryLinear(3, 2, scheme=BinaryConnect())
    assert input_gradient(plain, rows) is None
    assert input_gradient(BinaryLinear(3, 2, scheme=BitNet()), rows) == 1
    lines = BinaryConv1d(3, 2, 2, scheme=Scheme(activations=Sign(CLIPPED), input_normalize=True))
    images = 5 + 3 * torch.randn(2, 3, 7)
    normal = nn.functional.layer_norm(images.movedim(1, -1), (3,))
    assert input_gradient(lines, images) == pytest.approx((normal.abs() <= 1).float().mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [(IDENTITY, 1.0), (CLIPPED, 0.5), (Polynomial(), 0.25)],
    ids=["identity", "clipped", "poly"],
)
def test_the_gradient_of_weights_is_counted_where_it_is_made(gradient, expected):
    layer = BinaryLinear(4, 1, scheme=Scheme(weights=Sign(gradient)))
    layer.weight.data = torch.tensor([[0.5, -1.0, 1.5, -2.0]])
    assert weight_gradient(layer) == expected
    layer.float_weights = True
    assert weight_gradient(layer) == 1
    assert layer.weight.grad is None


def test_standardised_weights_pass_their_gradient():
    assert weight_gradient(BinaryLinear(40, 3, scheme=NormFree())) == 1


def test_measuring_draws_nothing():
    layer = BinaryLinear(4, 3, scheme=BinaryConnect(weights=Sign(stochastic=True)))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    weight_gradient(layer)
    sampled_bits(layer)
    assert torch.equal(torch.rand(3), expected)


def test_large_layers_are_sampled_always_in_the_same_places():
    torch.manual_seed(0)
    layer = BinaryLinear(512, 300)
    bits = sampled_bits(layer)
    assert len(bits) == SAMPLED_BITS < layer.weight.numel()
    assert torch.equal(bits, sampled_bits(layer))
    assert bits.float().mean().item() == pytest.approx(layer.bits().weight.float().mean().item(), abs=0.01)
    with torch.no_grad():
        layer.weight.neg_()
    assert (bits != sampled_bits(layer)).float().mean() > 0.99


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_measured(name, tmp_path):
    run = train(TINY.override({"scheme": name, "epochs": 1}), tmp_path / "a", progress=False)
    for row in rows_of(run.path):
        assert all(0 <= float(row[key]) <= 1 for key in ("ones", "flipped", "weight_gradient"))
        assert (row["clipped"] == "") == (SCHEMES[name]().clip_latents is None)
        assert (row["input_gradient"] == "") == (SCHEMES[name]().activations is None)


def test_without_latents_none_are_at_a_limit(tmp_path):
    run = train(TINY.override({"optimizer": "bop", "epochs": 1}), tmp_path / "a", progress=False)
    assert {row["clipped"] for row in rows_of(run.path)} == {""}


def test_embeddings_are_measured_without_inputs():
    layer = BinaryEmbedding(10, 4)
    assert input_gradient(layer, torch.tensor([1, 2])) is None
    assert weight_gradient(layer) == 1
    assert len(sampled_bits(layer)) == 40


def test_a_float_network_has_no_such_file(tmp_path):
    run = train(TINY.override({"binary": False, "epochs": 1}), tmp_path / "a", progress=False)
    assert not (run.path / "layers.csv").exists()


def test_a_resumed_run_has_the_figures_of_an_uninterrupted_one(trained, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Curves, "on_train_epoch_start", stop)
        with pytest.raises(Stopped):
            train(TINY, tmp_path / "parts", progress=False)
    assert load_run(tmp_path / "parts").epochs == 2
    # a row of an epoch that was not saved is dropped
    with (tmp_path / "parts" / "layers.csv").open("a") as file:
        file.write("3,features.0,0,0,0,0,0\n")
    train(TINY, tmp_path / "parts", resume=True, progress=False)
    assert rows_of(tmp_path / "parts") == rows_of(trained[0].path)
