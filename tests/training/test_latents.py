"""What training does to latents and gradients around a step, against formulas by hand, and that the module does it."""

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import onebit
from onebit.errors import OnebitError, RecipeError
from onebit.nn import BinaryConv2d, BinaryConvTranspose2d, BinaryLinear, RSign
from onebit.nn.binary import binary_layers
from onebit.packing import pack
from onebit.quantizers import ScaledSign, Sign, StochasticBits
from onebit.quantizers.gradients import Polynomial, Tanh
from onebit.schemes import BinaryConnect, BinaryNet, BinaryNormalized, Bipolar, BitNet, DoReFa, NormFree, Scheme
from onebit.text import TextTask
from onebit.training import ImageRecipe
from onebit.training.jobs import build_model
from onebit.training.latents import (
    check_latents,
    clip_gradient,
    clip_latents,
    clipped_parameters,
    correct_latents,
    correction_strength,
    pull,
)
from onebit.training.module import TrainingModule
from onebit.training.recipe import load_recipe

EPOCHS, STEPS = 3, 4


def fit(model, callback=None, **keys):
    """Train on noise by the module that trains from recipes; what the callback saw after each step."""

    class Watch(lightning.Callback):
        seen = []

        def on_train_batch_end(self, trainer, pl_module, *args):
            self.seen.append(callback(model))

    torch.manual_seed(0)
    data = TensorDataset(torch.randn(STEPS * 8, 6), torch.randint(3, (STEPS * 8,)))
    watch = Watch()
    watch.seen = []
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[watch] if callback else [],
    )  # fmt: skip
    recipe = ImageRecipe(epochs=EPOCHS, **{"learning_rate": 0.5, **keys})
    trainer.fit(TrainingModule(model, recipe, STEPS), DataLoader(data, 8), DataLoader(data, 8))
    return watch.seen


def network(scheme):
    torch.manual_seed(0)
    return nn.Sequential(BinaryLinear(6, 5, scheme=scheme), nn.BatchNorm1d(5), BinaryLinear(5, 3, scheme=scheme))


def largest(model):
    return model[0].weight.abs().max().item()


def test_latents_stay_within_the_schemes_limits():
    assert max(fit(network(BinaryConnect()), largest)) == 1
    assert max(fit(network(BinaryConnect(clip_latents=0.25)), largest)) == 0.25
    assert max(fit(network(BinaryConnect(clip_latents=None)), largest)) > 1


def test_only_what_is_binarised_is_clipped():
    floats, bits = BinaryConnect(clip_latents=0.5), Scheme(weights=Sign(), bias="bits", clip_latents=0.5)
    for scheme, expected in ((floats, 2.0), (bits, 0.5)):
        layer = BinaryLinear(2, 2, scheme=scheme)
        nn.init.constant_(layer.weight, -2)
        nn.init.constant_(layer.bias, 2)
        clip_latents([layer])
        assert layer.weight.eq(-0.5).all()
        assert layer.bias.eq(expected).all()


def test_progress_rises_from_zero_and_reaches_every_part():
    scheme = Scheme(weights=Sign(Tanh()), activations=Sign(Tanh()))
    model = nn.Sequential(RSign(6), *network(scheme))
    model[0].gradient = Tanh()
    seen = fit(model, lambda m: [m[i].progress for i in (0, 1, 3)], learning_rate=1e-3)
    total = EPOCHS * STEPS
    assert seen == [[step / total] * 3 for step in range(total)]


def test_the_gradient_of_ede_steepens_while_training():
    layer = BinaryLinear(6, 3, scheme=Scheme(weights=Sign(Tanh())))
    nn.init.constant_(layer.weight, 0.4)
    model = nn.Sequential(layer)
    factors = []

    def factor(_):
        w = layer.weight.detach().clone().requires_grad_()
        layer.scheme.weights(w, progress=layer.progress).codes.sum().backward()
        factors.append((layer.progress, w.detach(), w.grad))

    fit(model, factor, learning_rate=1e-5)
    for progress, w, got in factors:
        t = 0.1 * 100**progress
        torch.testing.assert_close(got, max(1 / t, 1) * t * (1 - torch.tanh(t * w) ** 2))
    # 0.4 is a small input of a flat tanh, and a large one of a steep
    assert factors[0][2].mean() > 0.9
    assert factors[-1][2].mean() < 0.3


def by_hand(w, g, share):
    rows = []
    for row, gradient in zip(w, g, strict=True):
        allowed = share * max(float(row.norm()), 1e-3)
        norm = float(gradient.norm())
        rows.append(gradient * allowed / norm if norm > allowed else gradient)
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 2, 2)])
def test_adaptive_clipping_is_its_formula(shape):
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(shape))
    with torch.no_grad():
        w[0] = 0  # counts as 1e-3
        w[1] *= 100  # so large that its gradient passes
    w.grad = torch.randn(shape)
    w.grad[2] = 0
    expected = by_hand(w.detach(), w.grad.clone(), 0.1)
    before = w.grad.clone()
    clip_gradient(w, 0.1)
    torch.testing.assert_close(w.grad, expected)
    assert torch.equal(w.grad[1], before[1])
    assert not torch.equal(w.grad[3], before[3])


def test_adaptive_clipping_follows_the_axis_of_outputs_and_takes_biases_whole():
    torch.manual_seed(0)
    layer = BinaryConvTranspose2d(3, 5, 2, scheme=NormFree(input_scale=False))
    layer.weight.grad, layer.bias.grad = torch.randn(3, 5, 2, 2), torch.ones(5)
    expected = by_hand(layer.weight.detach().movedim(1, 0), layer.weight.grad.movedim(1, 0).clone(), 0.02)
    for parameter, share, axis in clipped_parameters(nn.Sequential(layer, nn.Linear(5, 2)), {"0": layer}):
        clip_gradient(parameter, share, axis)
    torch.testing.assert_close(layer.weight.grad.movedim(1, 0), expected)
    torch.testing.assert_close(layer.bias.grad, torch.full((5,), 0.02 * 1e-3 / 5**0.5))


def test_adaptive_clipping_is_for_all_but_the_last_layer_and_only_where_asked():
    def names(scheme):
        model = nn.Sequential(nn.Linear(6, 6), BinaryLinear(6, 5, scheme=scheme), nn.Linear(5, 3))
        found = {id(p) for p, _, _ in clipped_parameters(model, {"1": model[1]})}
        return [name for name, p in model.named_parameters() if id(p) in found]

    assert names(NormFree()) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.threshold", "1.gain"]
    assert names(BinaryNet()) == []


def test_training_clips_gradients_before_the_step():
    model = nn.Sequential(BinaryLinear(6, 5, scheme=NormFree(gradient_clipping=0.01)), nn.Linear(5, 3))
    nn.init.constant_(model[0].gain, 1000)

    def ratios(m):
        return (m[0].weight.grad.norm(dim=1) / (m[0].weight.norm(dim=1))).max().item()

    # The weights are those after the step, the gradient's bound is of those before.
    assert all(0.009 < ratio < 0.011 for ratio in fit(model, ratios, learning_rate=1e-6))


def test_the_pull_is_its_formula():
    w = torch.tensor([[0.5, -1.5, 2.0], [0.0, 0.25, -0.25]])

    def value(scheme):
        layer = BinaryLinear(3, 2, scheme=scheme)
        layer.weight.data = w.clone()
        result = pull(layer)
        result.backward()
        return result.item(), layer.weight.grad

    total, gradient = value(BinaryNet())
    assert total == pytest.approx(0.5 + 0.5 + 1.0 + 1.0 + 0.75 + 0.75)
    # towards the nearer of -1 and +1; nothing is nearer to 0
    assert gradient.tolist() == [[-1, -1, 1], [0, -1, 1]]
    alpha = (4 / 3, 0.5 / 3)
    rows = [sum(abs(abs(v) - a) for v in row) for row, a in zip(w.tolist(), alpha, strict=True)]
    assert value(Scheme(weights=ScaledSign("output")))[0] == pytest.approx(sum(rows))
    mean = 4.5 / 6
    whole = sum(abs(v) for v in w.flatten().tolist()) / 6
    assert value(Scheme(weights=ScaledSign("layer")))[0] == pytest.approx(
        sum(abs(abs(v) - whole) for v in w.flatten().tolist())
    )
    mean = sum(w.flatten().tolist()) / 6
    centred = [v - mean for v in w.flatten().tolist()]
    spread = sum(abs(v) for v in centred) / 6
    for scheme in (BinaryNormalized(), BitNet()):
        assert value(scheme)[0] == pytest.approx(sum(abs(abs(v) - spread) for v in centred))


def test_pulled_latents_come_nearer_to_their_bits():
    def distance(m):
        return (m[0].weight.abs() - 1).abs().mean().item()

    free, pulled = (
        fit(network(BinaryNet()), distance, pull=strength, learning_rate=0.05)[-1] for strength in (0.0, 10.0)
    )
    assert pulled < 0.8 * free


def test_several_bits_are_not_pulled():
    with pytest.raises(OnebitError, match=r"\[pull\] DoReFa has weights of several bits"):
        TrainingModule(network(DoReFa(weights=2)), ImageRecipe(pull=1.0), STEPS)
    assert TrainingModule(network(DoReFa(weights=1)), ImageRecipe(pull=1.0), STEPS)


def test_cages_correction_is_its_formula():
    w = torch.tensor([[0.5, -1.5, 2.0], [0.1, 0.25, -0.25]])
    for scheme, centre, distance in (
        (BinaryNet(), 0.0, torch.ones(2, 1)),
        (Scheme(weights=ScaledSign("output")), 0.0, w.abs().mean(1, keepdim=True)),
        (BinaryNormalized(), w.mean(), (w - w.mean()).abs().mean()),
    ):
        layer = BinaryLinear(3, 2, scheme=scheme)
        layer.weight.data = w.clone()
        correct_latents([layer], torch.optim.SGD(layer.parameters(), lr=0.01), 5.0)
        values = torch.where(w > centre, centre + distance, centre - distance)
        torch.testing.assert_close(layer.weight.detach(), w - 0.01 * 5.0 * (w - values))
    other = layer.weight.detach().clone()
    correct_latents([layer], torch.optim.SGD(layer.parameters(), lr=0.01), 0.0)
    assert torch.equal(layer.weight, other)
    assert [correction_strength(10, p) for p in (0, 0.8, 0.9, 1)] == pytest.approx([0, 0, 5, 10])


def test_corrected_latents_come_nearer_to_their_bits_at_the_end_of_training():
    def distance(m):
        return (m[0].weight.abs() - 1).abs().mean().item()

    plain, corrected = (
        fit(network(BinaryNet()), distance, cage=c, learning_rate=0.05, schedule="constant") for c in (0.0, 10.0)
    )
    assert corrected[:9] == plain[:9]
    assert corrected[-1] < 0.9 * plain[-1]


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        *((form, {"estimator": "StochasticBits"}) for form in ("best", "all-bits", "paper")),
        *((form, {"learned_scales": True}) for form in ("best", "paper")),  # all-bits has no floats
    ],
    ids=str,
)
def test_a_recipe_changes_every_layer_of_every_form_and_what_packs_is_what_computes(form, keys, tmp_path):
    task = TextTask(("[PAD]", "[UNK]", "[SEP]", *"abcdefghijklm"), "words")
    recipe = load_recipe("paper-tiny").override(
        {"form": form, "features": 16, "blocks": 1, "context": 8, "head": [16], **keys}
    )
    torch.manual_seed(0)
    model = build_model(recipe, task)
    layers = binary_layers(model)
    assert all(
        layer.scheme.estimator == (StochasticBits() if "estimator" in keys else None) for layer in layers.values()
    )
    assert all(layer.scheme.weights.learned_scale == ("learned_scales" in keys) for layer in layers.values())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    tokens = torch.randint(16, (4, 8))
    for _ in range(3):
        optimizer.zero_grad()
        model(tokens).logsumexp(-1).mean().backward()
        optimizer.step()
    pack(model.eval(), tmp_path / "a.onebit", task)
    session = onebit.load(tmp_path / "a.onebit", precision="float32", threads=1)
    with torch.no_grad():
        expected = model(tokens[:1])[0]
    found = torch.as_tensor(session.logits(tokens[0].tolist()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_recurrences_do_not_learn_scales_and_several_bits_are_not_corrected():
    task = TextTask(("[PAD]", "[UNK]", "[SEP]", *"abc"), "words")
    with pytest.raises(RecipeError, match=r"recurrent: use learned_scales=false"):
        build_model(load_recipe("lstm").override({"learned_scales": True}), task)
    with pytest.raises(OnebitError, match=r"\[cage\] DoReFa has weights of several bits: use cage=0"):
        TrainingModule(network(DoReFa(weights=2)), ImageRecipe(cage=1.0), STEPS)


def test_bop_trains_by_the_recipe_and_its_bits_stay_bits():
    model = network(BinaryNet())
    seen = fit(model, lambda m: m[0].weight.detach().clone(), optimizer="bop", bop_gamma=0.1, learning_rate=0.01)
    assert all(w.abs().eq(1).all() for w in seen)
    assert any(not torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False))
    assert fit(network(BinaryNet()), largest, optimizer="bop", bop_threshold=100.0) == [1.0] * (EPOCHS * STEPS)


def test_muon_trains_the_matrices_but_the_last():
    model = nn.Sequential(BinaryLinear(6, 8, scheme=BinaryConnect()), nn.Linear(8, 8), nn.Linear(8, 3))
    module = TrainingModule(model, ImageRecipe(optimizer="muon", muon_steps=3), STEPS)
    adam, muon = module.configure_optimizers()["optimizer"].optimizers
    assert [id(p) for p in muon.param_groups[0]["params"]] == [id(model[0].weight), id(model[1].weight)]
    assert muon.param_groups[0]["ns_steps"] == 3
    assert {id(p) for group in adam.param_groups for p in group["params"]} == {
        id(p) for p in (model[0].bias, model[1].bias, model[2].weight, model[2].bias)
    }
    with pytest.raises(OnebitError, match=r"\[muon\] the network has no dense layer but the last"):
        TrainingModule(nn.Linear(6, 3), ImageRecipe(optimizer="muon", binary=False), STEPS)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_weight_decay_ends_where_the_recipe_says(monkeypatch, optimizer):
    seen, kind = [], torch.optim.Adam if optimizer == "adam" else torch.optim.Muon
    original = kind.step

    def step(self, *args, **kwargs):
        seen.append(self.param_groups[0]["weight_decay"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(kind, "step", step)
    keys = {"optimizer": optimizer, "weight_decay": 0.1, "weight_decay_until": 0.5, "learning_rate": 1e-3}
    model = nn.Sequential(BinaryLinear(6, 8, scheme=BinaryNet()), nn.Linear(8, 3))
    fit(model, **keys)
    half = -(-EPOCHS * STEPS // 2)
    assert seen == [0.1] * half + [0.0] * (EPOCHS * STEPS - half)


def test_bop_is_refused_before_anything_is_trained():
    with pytest.raises(OnebitError, match=r"\[Bop\] 0: BinaryNormalized does not take the sign"):
        TrainingModule(network(BinaryNormalized()), ImageRecipe(optimizer="bop"), STEPS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_no_numbers_name_their_layer(value):
    model = network(BinaryNet())
    layers = {"first": model[0], "second": model[2]}
    check_latents(layers, "step 1")
    model[2].weight.data[0, 0] = value
    with pytest.raises(OnebitError, match=rf"the latents of second hold {value} at step 1: use a lower") as caught:
        check_latents(layers, "step 1")
    assert "\n" not in str(caught.value)


def test_large_latents_are_numbers():
    model = network(BinaryNet())
    nn.init.constant_(model[0].weight, 1e30)  # its square is not
    check_latents({"first": model[0]}, "step 1")


def test_training_stops_at_latents_that_are_no_numbers():
    # The loss stays finite: a NaN is above nothing, so that its bit is 0.
    model = network(BinaryNormalized())
    model[0].weight.register_hook(lambda g: g * float("nan"))
    with pytest.raises(OnebitError, match=r"the latents of 0 hold nan at step 1 \(epoch 1\)"):
        fit(model, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"optimizer": "lion"}, "optimizer='lion': needs 'adam' or 'sgd' or 'bop' or 'muon'"),
        ({"bop_gamma": 0}, "bop_gamma=0.0: use a number above 0, at most 1"),
        ({"bop_threshold": -1}, "bop_threshold=-1.0: use 0 or more"),
        ({"pull": -1}, "pull=-1.0: use 0 or more"),
        ({"pull": 1, "optimizer": "bop"}, "pull=1.0: use optimizer=adam with it: bop has no latents"),
        ({"cage": -1}, "cage=-1.0: use 0 or more"),
        ({"cage": 1, "optimizer": "bop"}, "cage=1.0: use optimizer=adam with it: bop has no latents"),
        ({"estimator": "STE"}, "estimator='STE': use straight-through, ReSTE, EDE, BinaryRelax, StochasticBits"),
        ({"estimator": "EDE", "optimizer": "bop"}, "estimator='EDE': use optimizer=adam with it"),
        ({"estimator": "EDE", "binary": False}, "estimator='EDE': use it with binary=true only"),
        ({"learned_scales": True, "binary": False}, "learned_scales=True: use it with binary=true only"),
        ({"pull": 1, "binary": False}, "pull=1.0: use it with binary=true only"),
        ({"optimizer": "bop", "binary": False}, "optimizer='bop': use it with binary=true only"),
    ],
)
def test_wrong_keys_are_named(keys, message):
    with pytest.raises(RecipeError) as raised:
        ImageRecipe().override(keys, "here")
    assert message in str(raised.value)


def test_a_convolutions_pull_is_for_each_output():
    layer = BinaryConv2d(2, 3, 3, scheme=Scheme(weights=ScaledSign("output", Polynomial())))
    w = layer.weight.detach().abs()
    expected = sum((row - row.mean()).abs().sum().item() for row in w)
    assert pull(layer).item() == pytest.approx(expected, rel=1e-5)


def test_a_threshold_for_each_output_is_what_its_latents_are_pulled_about():
    layer = BinaryLinear(6, 3, scheme=Bipolar(normalize=None))
    centred = [row - row.mean() for row in layer.weight.detach() + torch.tensor([[0.0], [1.0], [2.0]])]
    layer.weight.data += torch.tensor([[0.0], [1.0], [2.0]])
    expected = sum((row.abs() - row.abs().mean()).abs().sum().item() for row in centred)
    assert pull(layer).item() == pytest.approx(expected, rel=1e-5)
