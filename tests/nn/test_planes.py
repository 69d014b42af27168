"""Networks that run with the first planes of their weights, and networks with exits."""

import pytest
import torch

from onebit.models import conv_classifier
from onebit.nn import PlaneNorms, most_planes, use_planes
from onebit.schemes import Bipolar, Nested


def network(scheme=None, **options):
    torch.manual_seed(0)
    return conv_classifier(num_classes=5, widths=(8, 16), in_channels=1, scheme=scheme or Nested(2), **options)


def test_each_number_of_planes_has_statistics_of_its_own():
    model, x = network(), torch.randn(16, 1, 8, 8)
    norms = [m for m in model.modules() if isinstance(m, PlaneNorms)]
    assert len(norms) == 7
    use_planes(model, 1)
    model.train()(x)
    assert all(bool(n.norms[0].running_mean.any()) and not n.norms[1].running_mean.any() for n in norms)
    use_planes(model, 2)
    model(x)
    assert all(bool(n.norms[1].running_mean.any()) for n in norms)
    model.eval()
    both = []
    for planes in (1, 2):
        use_planes(model, planes)
        both.append(model(x))
    assert not torch.allclose(*both)


def test_one_plane_of_nested_signs_is_bipolar_but_for_its_statistics():
    x = torch.randn(4, 1, 8, 8)
    model = network(Nested(2, eps=1e-12))
    use_planes(model, 1)
    # A batch normalisation takes away the scale of the sums.
    assert torch.allclose(model.train()(x), network(Bipolar(eps=1e-12)).train()(x), atol=1e-4)


def test_wrong_numbers_of_planes():
    model = network()
    assert most_planes(model) == 2
    assert most_planes(torch.nn.Linear(2, 2)) == 1
    for planes in (0, 3, True, 1.0):
        with pytest.raises(ValueError, match="use 1 to 2"):
            use_planes(model, planes)


def test_exits_give_logits_of_all_heads_in_training_and_of_the_last_in_use():
    model, x = network(exits=(1,)), torch.randn(4, 1, 8, 8)
    early, last = model.train()(x)
    assert early.shape == last.shape == (4, 5)
    (early.sum() + last.sum()).backward()
    assert model.eval()(x).shape == (4, 5)


@pytest.mark.parametrize("exits", [(0,), (2,), (1, 1)])
def test_exits_in_wrong_places(exits):
    with pytest.raises(ValueError, match="exits=.*use rising numbers from 1 to 1"):
        network(exits=exits)
