"""Training with the scale in the weights computes what evaluation does with the scale on the sums, and so do its gradients."""

import pytest
import torch

from onebit.nn import BinaryConv2d, BinaryConvTranspose2d, BinaryEmbedding, BinaryLinear
from onebit.quantizers import ScaledSign
from onebit.schemes import BinaryConnect, BinaryWeightNetwork, BitNet158, PureBits, Scheme

SCHEMES = [
    BinaryWeightNetwork(),
    BinaryConnect(),
    PureBits(),
    Scheme(weights=ScaledSign("output"), gain=True),
    Scheme(weights=ScaledSign("output"), normalize="channel", input_normalize=True),
]
LAYERS = {
    "dense": (lambda scheme, bias: BinaryLinear(6, 5, bias, scheme=scheme), lambda: torch.randn(3, 7, 6)),
    "convolution": (
        lambda scheme, bias: BinaryConv2d(3, 5, 3, bias=bias, scheme=scheme),
        lambda: torch.randn(2, 3, 8, 8),
    ),
    "transposed": (
        lambda scheme, bias: BinaryConvTranspose2d(3, 5, 3, bias=bias, scheme=scheme),
        lambda: torch.randn(2, 3, 6, 6),
    ),
    "table": (lambda scheme, bias: BinaryEmbedding(9, 5, bias, scheme=scheme), lambda: torch.randint(0, 9, (2, 4))),
}


def taken(layer, x, training, towards):
    layer.train(training)
    for parameter in layer.parameters():
        parameter.grad = None
    y = layer(x)
    (y * towards(y)).sum().backward()
    return y.detach(), [parameter.grad for parameter in layer.parameters()]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_training_computes_what_evaluation_does(scheme, layer, bias):
    torch.manual_seed(0)
    make, inputs = LAYERS[layer]
    made, x = make(scheme, bias), inputs()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    drawn = torch.Generator().manual_seed(1)
    direction = {}

    def towards(y):
        return direction.setdefault("of", torch.randn(y.shape, generator=drawn))

    y, gradients = taken(made, x, True, towards)
    expected, theirs = taken(made, x, False, towards)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    for ours, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-4)


def test_layers_that_quantise_their_inputs_keep_the_scale_on_the_sums():
    assert not BinaryLinear(4, 4, scheme=BitNet158())._scale_goes_into_weights()
    assert BinaryLinear(4, 4, scheme=BinaryWeightNetwork())._scale_goes_into_weights()


def test_a_bfloat16_layer_stays_bfloat16():
    layer = BinaryLinear(6, 5, scheme=BinaryWeightNetwork()).to(torch.bfloat16)
    assert layer(torch.randn(2, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16
