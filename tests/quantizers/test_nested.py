"""Nested signs: bits of which the first alone are a coarser version of the same weights."""

import numpy as np
import pytest
import torch

from onebit.quantizers import NestedSigns, nested_signs, weight_planes


def plain(w, planes, used):
    """The formula of the docstring in NumPy, a weight at a time."""
    codes, scales = np.zeros(w.shape), []
    for row, out in zip(w, codes, strict=True):
        centred = row - row.mean()
        alpha = np.abs(centred).mean()
        scales.append(alpha / 2 ** (used - 1))
        for i, value in enumerate(centred):
            for plane in range(used):
                bit = 1 if value > 0 else -1
                value -= alpha * 2.0**-plane * bit
                out[i] += 2 ** (used - 1 - plane) * bit
    return codes, scales


@pytest.mark.parametrize("used", [1, 2, 3])
def test_codes_and_scales(used):
    w = np.random.default_rng(0).standard_normal((5, 33))
    codes, scale = nested_signs(torch.from_numpy(w), 3, used)
    expected, scales = plain(w, 3, used)
    assert np.array_equal(codes.numpy(), expected)
    assert np.allclose(scale.numpy(), scales)


def test_each_number_of_planes_begins_with_the_same_bits_and_is_nearer():
    w = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    before, error = torch.empty(0, *w.shape, dtype=torch.bool), float("inf")
    for used in (1, 2, 3, 4):
        quantizer = NestedSigns(4, used)
        planes, scale = weight_planes(quantizer, w)
        assert torch.equal(planes[:-1], before)
        codes = quantizer(w).codes
        signs = sum(c * (2.0 * plane - 1) for c, plane in zip(quantizer.planes, planes, strict=True))
        assert torch.equal(signs, codes)
        left = (w - w.mean((1, 2, 3), keepdim=True) - codes * scale.view(-1, 1, 1, 1)).square().mean().item()
        assert left < 0.8 * error
        before, error = planes, left


def test_the_gradient_is_the_identity():
    w = torch.randn(4, 9, requires_grad=True)
    codes, scale = nested_signs(w, 2)
    weight = torch.randn(4, 9)
    (codes * scale[:, None] * weight).sum().backward()
    assert torch.allclose(w.grad, weight, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"most": 0}, "most=0: use 1 to 8"), ({"most": 9}, "use 1 to 8"), ({"used": 3}, "used=3: use 1 to 2, or None")],
)
def test_wrong_numbers(options, words):
    with pytest.raises(ValueError, match=words):
        NestedSigns(**options)
