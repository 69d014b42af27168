"""The language decoder: the paper's counts, causality, its options and its KV cache."""

import pytest
import torch

from onebit.models import language_decoder
from onebit.nn import BinaryEmbedding, BinaryLinear, Normalize

SMALL = {"vocabulary": 40, "context": 12, "blocks": 2, "features": 16, "heads": 2, "head": (24, 20)}


@pytest.mark.parametrize(("size", "parameters"), [("small", 154_406_714), ("large", 332_855_098)])
def test_parameters_are_the_papers(size, parameters):
    with torch.device("meta"):
        model = language_decoder(size, form="paper")
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(("size", "least", "most"), [("tiny", 0.9e6, 1.2e6), ("mini", 5e6, 10e6)])
def test_small_sizes_are_what_they_say(size, least, most):
    assert least <= sum(p.numel() for p in language_decoder(size, form="paper").parameters()) <= most


def test_every_parameter_is_of_a_binary_layer():
    model = language_decoder(SMALL, form="paper", embedding_widening=3, head_widening=2)
    binary = {p for m in model.modules() if isinstance(m, (BinaryLinear, BinaryEmbedding)) for p in m.parameters()}
    assert set(model.parameters()) == binary


@pytest.mark.parametrize("binary", [True, False])
def test_the_future_never_reaches_the_past(binary):
    model = language_decoder(SMALL, binary=binary, residual_scale=0.35, logit_scale=3.0, embedding_widening=2)
    tokens = torch.randint(0, 40, (2, 12))
    changed = tokens.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 40
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("binary", [True, False])
def test_extending_equals_the_whole(binary, pre_norm):
    model = language_decoder(SMALL, binary=binary, pre_norm=pre_norm).eval()
    tokens = torch.randint(0, 40, (2, 12))
    caches = model.caches()
    ends = [(0, 5), (5, 6), (6, 12)]
    with torch.no_grad():
        made = [model.extend(tokens[:, a:b], caches) for a, b in ends]
    whole = model(tokens)
    torch.testing.assert_close(torch.stack(made, 1), whole[:, [4, 5, 11]], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="13 positions: this model has 12"):
        model.extend(tokens[:, :1], caches)


def test_the_twin_has_learnable_normalisations_and_the_same_shape():
    twin = language_decoder(SMALL, binary=False, form="paper")
    assert not any(isinstance(m, (Normalize, BinaryLinear)) for m in twin.modules())
    norms = [m for m in twin.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 1 + 2 * SMALL["blocks"]
    assert all(norm.weight.requires_grad for norm in norms)
    assert twin(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 40)


def test_logit_scale_multiplies():
    torch.manual_seed(0)
    plain = language_decoder(SMALL, form="paper")
    scaled = language_decoder(SMALL, form="paper", logit_scale=3.0)
    scaled.load_state_dict(plain.state_dict())
    tokens = torch.randint(0, 40, (1, 5))
    torch.testing.assert_close(scaled(tokens), 3 * plain(tokens))
    assert plain(tokens).std(-1, unbiased=False).mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("huge", "size='huge': use tiny, mini, books, small, large"),
        ({"layers": 3}, "size 'layers' is unknown: use vocabulary"),
        ({"blocks": 0}, "blocks=0: use integers from 1 up"),
        ({"head": (8, 0)}, "use integers from 1 up"),
        ({"features": 30, "heads": 4}, "heads=4 does not divide features=30"),
    ],
)
def test_wrong_sizes_are_named(size, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        language_decoder(size)


def test_wrong_widening_is_named():
    with pytest.raises(ValueError, match="head_widening=0: use 1 or more"):
        language_decoder(SMALL, head_widening=0)


@pytest.mark.parametrize("binary", [True, False])
def test_activations_computed_again_give_the_same_gradients_from_less_memory(binary):
    torch.manual_seed(0)
    model = language_decoder({"vocabulary": 50, "context": 8, "features": 16, "heads": 2, "head": (16,)}, binary=binary)
    tokens = torch.randint(50, (3, 8))
    gradients, kept = [], []
    for again in (False, True):
        model.checkpoint_activations = again
        storages = {}

        def keep(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(tokens).square().sum()
        kept.append(sum(storages.values()))
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < 0.7 * kept[0]
