"""The paper's classifier: exact parameter counts, shapes, twins."""

import pytest
import torch
from torch import nn

from onebit.models import conv_classifier
from onebit.nn import BinaryConv2d, BinaryLinear
from onebit.schemes import BinaryNormalized


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("kernel_size", "widths", "count"),
    [(3, "counted", 5_132_165), (5, "counted", 13_505_925), (3, "listed", 1_403_653)],
)
def test_parameters_are_the_papers(kernel_size, widths, count, binary):
    assert parameters(conv_classifier(kernel_size, widths=widths, binary=binary)) == count


def test_every_parameter_of_the_binary_network_belongs_to_a_binary_layer():
    model = conv_classifier(3, 10, (8, 16), scheme=BinaryNormalized(normalize="batch"))
    layers = [m for m in model.modules() if isinstance(m, (BinaryConv2d, BinaryLinear))]
    assert sum(parameters(layer) for layer in layers) == parameters(model)
    assert len(layers) == 7


def test_the_twin_has_the_papers_dropout_and_no_normalisation():
    model = conv_classifier(3, 10, (8, 16), binary=False)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.4, 0.3]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize(
    "options", [{}, {"binary": False}, {"binary": False, "batch_norm": True}, {"logit_scale": 4.0}]
)
def test_shapes(options):
    model = conv_classifier(3, 7, (4, 8), in_channels=1, **options)
    assert model(torch.randn(3, 1, 12, 12)).shape == (3, 7)


def test_the_paper_s_logits_are_normalised_and_a_scale_lifts_them():
    torch.manual_seed(0)
    plain = conv_classifier(3, 10, (4, 8))
    scaled = conv_classifier(3, 10, (4, 8), logit_scale=5.0)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 8, 8)
    assert plain(x).std(1, unbiased=False).mean().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(scaled(x), 5 * plain(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": "wide"}, "widths='wide': use 'counted', 'listed' or a list"),
        ({"widths": ()}, "widths is empty"),
        ({"widths": (8, 0)}, "use numbers from 1 up"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"batch_norm": True}, "batch_norm=True applies to the float twin"),
    ],
)
def test_wrong_sizes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        conv_classifier(**options)
