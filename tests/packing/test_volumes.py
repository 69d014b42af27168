"""Convolutions and pooling of volumes give in the reference and in the engine what PyTorch gives, and what cannot be packed is named."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import onebit
from onebit._engine import Engine
from onebit.errors import PackError
from onebit.nn import BinaryConv3d
from onebit.packing.trace import trace
from onebit.runtime import reference
from onebit.schemes import SCHEMES, BinaryWeightNetwork

SHAPE = (5, 6, 7, 4)  # depth, height, width, channels


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def compared(model, precision="float32", seed=0):
    """What PyTorch, the reference and the engine give for random volumes."""
    x = np.random.default_rng(seed).standard_normal((2, *SHAPE)).astype(np.float32)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(x).permute(0, 4, 1, 2, 3)).numpy()
        made = trace(model, SHAPE)
    if expected.ndim == 5:
        expected = expected.transpose(0, 2, 3, 4, 1)
    engine = Engine(made.program.to_json(), made.tensors, precision, 2).run(x)
    return expected, reference.run(made.program, made.tensors, x, precision), engine


def same(model):
    expected, computed, engine = compared(model)
    bound = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(computed, expected, rtol=0, atol=bound)
    np.testing.assert_allclose(engine, expected, rtol=0, atol=bound)


OPTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (2, 3, 1), "stride": (2, 1, 3), "padding": (1, 2, 0), "bias": False},
    {"kernel_size": 3, "padding": "same", "dilation": (1, 2, 1)},
    {"kernel_size": (3, 1, 3), "padding": 1, "groups": 2},
    {"kernel_size": 3, "padding": 1, "groups": 4},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_float_convolution_is_pytorchs(options):
    torch.manual_seed(0)
    same(nn.Conv3d(4, 8, **options))


@pytest.mark.parametrize("scheme", ["BinaryConnect", "BitNet158", "BinaryNet", "BinaryNormalized"])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_convolution_of_bits_is_pytorchs(options, scheme):
    torch.manual_seed(0)
    # With as many outputs as inputs a group for each channel is a depthwise convolution.
    same(BinaryConv3d(4, 4, **options, scheme=SCHEMES[scheme]()))


@pytest.mark.parametrize("options", OPTIONS)
def test_bytes_give_what_the_reference_gives(options):
    torch.manual_seed(0)
    expected, computed, engine = compared(BinaryConv3d(4, 4, **options, scheme=BinaryWeightNetwork()), "int8")
    np.testing.assert_allclose(engine, computed, rtol=0, atol=1e-6 * np.abs(computed).max())
    assert np.abs(engine - expected).max() <= 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    "model",
    [
        nn.MaxPool3d(2),
        nn.MaxPool3d((3, 2, 2), (1, 2, 3), (1, 0, 1)),
        nn.AvgPool3d((2, 3, 2), 2, 1),
        nn.AvgPool3d(3, 2, 1, count_include_pad=False),
        nn.AdaptiveAvgPool3d(1),
        nn.AdaptiveMaxPool3d((1, 1, 1)),
        nn.GroupNorm(2, 4),
        nn.BatchNorm3d(4),
        Function(lambda x: F.max_pool3d(F.relu(x), 2)),
        Function(lambda x: F.avg_pool3d(x, (1, 2, 2))),
        Function(lambda x: F.adaptive_avg_pool3d(x, 1).flatten(1)),
    ],
    ids=str,
)
def test_pooling_and_normalising_are_pytorchs(model):
    expected, computed, engine = compared(model)
    for made in (computed, engine):
        np.testing.assert_allclose(made.reshape((*expected.shape[:1], -1)), expected.reshape(2, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.MaxPool3d(2, ceil_mode=True), "with ceil_mode where windows do not fit"),
        (nn.MaxPool3d(2, dilation=2), "with return_indices or dilation"),
        (nn.AvgPool3d(2, divisor_override=3), "with divisor_override"),
        (nn.AdaptiveAvgPool3d(2), r"AdaptiveAvgPool3d\(2\) cannot be packed: use output_size=1"),
        (BinaryConv3d(4, 8, 3, scheme=SCHEMES["XnorNet"]()), r"use XnorNet\(input_scale=False\)"),
        (nn.Conv3d(4, 8, 3, padding_mode="circular", padding=1), "padding_mode='circular' cannot be packed"),
    ],
)
def test_what_cannot_be_packed_is_named(model, message):
    with pytest.raises(PackError, match=message):
        trace(model.eval(), SHAPE)


def test_a_convolution_of_volumes_of_an_image_is_refused():
    with pytest.raises(PackError, match=r"needs \(depth, height, width, channels\)"):
        trace(nn.Conv3d(4, 8, 3).eval(), (6, 7, 4))


def test_a_converted_network_keeps_its_volumes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, 3, groups=2), nn.Conv3d(8, 2, 1))
    report = onebit.convert(model, BinaryWeightNetwork())
    assert report.converted == ("2",)
    same(model)
