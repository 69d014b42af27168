"""Rotary positions, compared with products of complex numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.nn import RotaryPositions


def turned(x, heads, base, rotated, start):
    """The same in complex numbers: feature j and feature j + rotated / 2 are the parts of one."""
    batch, time, features = x.shape
    x = x.double().view(batch, time, heads, features // heads)
    half = rotated // 2
    pairs = torch.complex(x[..., :half], x[..., half:rotated])
    angles = torch.outer(torch.arange(start, start + time).double(), base ** (-2 * torch.arange(half) / rotated))
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((pairs.real, pairs.imag, x[..., rotated:]), -1).flatten(-2)


@settings(max_examples=25, deadline=None)
@given(
    heads=st.integers(1, 4),
    pairs=st.integers(1, 5),
    rest=st.integers(0, 3),
    start=st.integers(0, 40),
    base=st.sampled_from([100.0, 10000.0, 500000.0]),
)
def test_rotary_positions_are_products_of_complex_numbers(heads, pairs, rest, start, base):
    x = torch.randn(2, 5, heads * (2 * pairs + rest))
    layer = RotaryPositions(heads, base, 2 * pairs)
    torch.testing.assert_close(layer(x, start).double(), turned(x, heads, base, 2 * pairs, start), rtol=1e-4, atol=1e-4)


def test_a_product_depends_on_the_distance_only():
    layer, q, k = RotaryPositions(1), torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    products = [(layer(q, start) * layer(k, start + 3)).sum() for start in (0, 11, 200)]
    torch.testing.assert_close(products[0], products[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(products[0], products[2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(products[0], (layer(q) * layer(k, 4)).sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RotaryPositions(0), "heads=0: use 1 or more"),
        (lambda: RotaryPositions(2, 0.0), "base=0.0: use a number above 0"),
        (lambda: RotaryPositions(2, rotated=3), "rotated=3: use an even number from 2 up"),
        (lambda: RotaryPositions(2)(torch.zeros(1, 2, 6)), "3 of 3 features of a head are not pairs"),
        (lambda: RotaryPositions(2, rotated=4)(torch.zeros(1, 2, 4)), "4 of 2 features of a head"),
    ],
)
def test_wrong_numbers_are_named(make, message):
    with pytest.raises(ValueError, match=rf"\[RotaryPositions\] .*{message}"):
        make()
