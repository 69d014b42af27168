"""Eq. 1 of the paper, its two readings, and the straight-through gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onebit.binarize import binarize, threshold_bits

latents = npst.arrays(
    np.float32, npst.array_shapes(max_dims=4, max_side=5), elements=st.floats(-10, 10, width=32, allow_subnormal=False)
)


@given(latents)
def test_bits_are_the_elements_above_the_mean(latent):
    tensor = torch.tensor(latent)
    assert np.array_equal(threshold_bits(tensor).numpy(), latent > tensor.mean().item())


@given(latents)
def test_both_readings_are_of_the_same_bits(latent):
    tensor = torch.tensor(latent)
    assert torch.equal(binarize(tensor, "pm1"), 2 * binarize(tensor, "01") - 1)


@pytest.mark.parametrize("values", ["01", "pm1"])
def test_gradient_reaches_the_latent_unchanged(values):
    latent = torch.randn(5, 7, requires_grad=True)
    gradient = torch.randn(5, 7)
    binarize(latent, values).backward(gradient)
    assert torch.equal(latent.grad, gradient)


def test_a_constant_latent_is_all_zeros():
    assert not threshold_bits(torch.zeros(9)).any()


def test_autocast_gives_exact_bfloat16_and_float32_gradients():
    latent = torch.randn(4, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bits = binarize(latent)
    assert bits.dtype == torch.bfloat16
    assert torch.equal(bits.float(), binarize(latent))
    bits.sum().backward()
    assert latent.grad.dtype == torch.float32


def test_unknown_values_are_named():
    with pytest.raises(ValueError, match=r"values='0/1': use '01' or 'pm1'"):
        binarize(torch.zeros(2), "0/1")
