"""The published networks: known sizes, every scheme forward and backward, float layers, and errors."""

import pytest
import torch
from torch import nn

from onebit.models import alexnet, mlp, mobile_net, resnet, vgg
from onebit.nn import BinaryConv2d, BinaryLinear, BinarySeparableConv2d
from onebit.schemes import SCHEMES, BinaryNet, BinaryNormalized, BiRealNet, NormFree, ReActNet, XnorNet


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: resnet(18), 11_689_512),  # torchvision's resnet18
        (lambda: resnet(34), 21_797_672),  # torchvision's resnet34
        (lambda: resnet(18, 10, small_images=True), 11_173_962),  # the ResNet-18 of CIFAR-10 that many report
        (lambda: resnet(20, 10), 272_474),  # with 1x1 convolutions in two shortcuts
        (lambda: mobile_net(), 4_231_976),  # MobileNet 1.0
    ],
)
def test_float_twins_have_the_sizes_that_others_count(make, count):
    assert parameters(make()) == count


def test_deep_networks_have_their_depth():
    for depth in (20, 56, 110):
        layers = [m for m in resnet(depth, 10, scheme=BiRealNet()).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert sum(m.kernel_size != (1, 1) for m in layers if isinstance(m, nn.Conv2d)) + 1 == depth


@pytest.mark.parametrize("scheme", [None, *(scheme() for scheme in SCHEMES.values())])
@pytest.mark.parametrize("hybrid", [True, False])
def test_every_network_learns_with_every_scheme(scheme, hybrid):
    networks = [
        (mlp(192, 10, (32, 32), scheme, hybrid), 8),
        (vgg((8, 8), 10, widths=(8, 16), hidden=(32,), scheme=scheme, hybrid=hybrid), 8),
        (resnet(8, 10, scheme=scheme, hybrid=hybrid), 8),
        (mobile_net(10, width=0.125, small_images=True, scheme=scheme, hybrid=hybrid), 16),
    ]
    for model, side in networks:
        y = model(torch.randn(4, 3, side, side))
        assert y.shape == (4, 10)
        y.logsumexp(1).sum().backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), name


def test_alexnet_and_the_large_resnets_take_large_images():
    for model in (alexnet(7, width=0.05, scheme=XnorNet()), resnet(18, 7, width=0.125, scheme=BiRealNet())):
        assert model(torch.randn(2, 3, 224, 224)).shape == (2, 7)


def test_hybrid_networks_keep_their_ends_float():
    def ends(hybrid):
        layers = [m for m in vgg(scheme=BinaryNet(), hybrid=hybrid).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        return type(layers[0]), type(layers[-1])

    assert ends(True) == (nn.Conv2d, nn.Linear)
    assert ends(False) == (BinaryConv2d, BinaryLinear)
    first = next(m for m in vgg(scheme=BinaryNet(), hybrid=False).modules() if isinstance(m, BinaryConv2d))
    assert first.scheme.activations.describe() == {"quantizer": "absmax", "bits": 8}  # pixels are no signs
    last = list(vgg(scheme=BinaryNet(), hybrid=False).head)[-2:]
    assert [type(layer) for layer in last] == [BinaryLinear, nn.BatchNorm1d]


def test_a_network_of_the_paper_has_nothing_but_bits():
    model = resnet(8, 10, scheme=BinaryNormalized(), hybrid=False)
    floats = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and not hasattr(m, "scheme")}
    assert floats == {"features.3.shortcut.1", "features.4.shortcut.1"}  # shortcuts where the shape changes


def test_shortcuts_may_have_bits_too():
    model = resnet(18, 10, width=0.125, scheme=ReActNet(), small_images=True, float_shortcuts=False)
    floats = {
        name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and not hasattr(m, "scheme")
    }
    assert floats == {"features.0", "head.2"}  # the first and the last layer
    assert model.features[5].shortcut[1].scheme.activations is None  # a shortcut does not quantise what it passes on
    x = torch.randn(2, 3, 32, 32)
    assert model.features[:5](x).shape == (2, 8, 32, 32)
    assert model(x).shape == (2, 10)


def test_branches_without_normalisation_are_scaled_down():
    model = resnet(8, 10, scheme=NormFree())
    assert model.features[2].branch_scale == 0.2
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet(19), r"\[resnet\] depth=19: use 18 or 34 .*6n \+ 2"),
        (lambda: resnet(18, 0), "num_classes=0: use numbers above 0"),
        (lambda: vgg((30, 32)), "image_size=.*multiples of 8"),
        (lambda: mlp(10, hidden=()), "hidden="),
        (lambda: alexnet(width=-1.0), "width=-1.0"),
        (lambda: BinarySeparableConv2d(8, 8, scheme="BinaryNet"), "scheme='BinaryNet': use one of onebit.schemes"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
