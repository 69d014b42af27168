"""Compare weights of several levels with a search for the nearest level, and their spacing with the best one."""

import pytest
import torch

from onebit.quantizers import ScaledLevels, ScaledSign, scaled_levels, weight_planes
from onebit.quantizers.levels import STEPS


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_each_weight_takes_the_nearest_level(bits):
    torch.manual_seed(bits)
    w = torch.randn(5, 64) * torch.tensor([0.01, 0.1, 1.0, 3.0, 7.0])[:, None]
    codes, scale = scaled_levels(w, bits)
    levels = torch.arange(1 - 2**bits, 2**bits, 2.0)
    for row, own, s in zip(w, codes, scale, strict=True):
        distances = (row[:, None] - s * levels).abs()
        torch.testing.assert_close((row - s * own).abs(), distances.min(1).values)
    assert set(codes.flatten().tolist()) <= set(levels.tolist())


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_spacing_loses_least_of_a_normal_distribution(bits):
    x = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    half = 2 ** (bits - 1)

    def error(step):
        nearest = ((x / step).floor().clamp(-half, half - 1) + 0.5) * step
        return float((nearest - x).square().mean())

    best = min(error(STEPS[bits - 1] * factor) for factor in torch.linspace(0.8, 1.25, 46).tolist())
    assert error(STEPS[bits - 1]) < 1.02 * best


def test_two_bits_are_half_and_one_and_a_half_deviations():
    torch.manual_seed(0)
    codes, scale = scaled_levels(torch.randn(1, 100_000) * 3, 2)
    levels = sorted(set((codes * scale).flatten().tolist()))
    torch.testing.assert_close(torch.tensor(levels) / 3, torch.tensor([-1.5, -0.5, 0.5, 1.5]), atol=0.01, rtol=0.01)


def test_one_bit_is_the_scaled_sign():
    w = torch.randn(4, 32)
    for own, other in zip(ScaledLevels(1)(w), ScaledSign()(w), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=0)


def test_the_gradient_is_the_identity_and_outputs_may_lie_on_another_axis():
    w = torch.randn(6, 3, requires_grad=True)
    codes, scale = scaled_levels(w, 4, axis=1)
    assert scale.shape == (3,)
    g = torch.randn(6, 3)
    (codes * scale).backward(g)
    torch.testing.assert_close(w.grad, g)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_planes_hold_the_codes(bits):
    w = torch.randn(4, 40)
    planes, scale = weight_planes(ScaledLevels(bits), w)
    weights = torch.tensor(ScaledLevels(bits).planes, dtype=torch.float32)
    codes = ((2.0 * planes - 1) * weights[:, None, None]).sum(0)
    torch.testing.assert_close(codes, scaled_levels(w, bits).codes)
    torch.testing.assert_close(scale, scaled_levels(w, bits).scale)


def test_numbers_of_bits_are_checked():
    with pytest.raises(ValueError, match="bits=9: use 1 to 8"):
        ScaledLevels(9)
