"""Compare each straight-through gradient with autograd of its function, and DoReFa-Net's stochastic gradient with its formula."""

import copy
import math

import pytest
import torch

from onebit.quantizers.gradients import (
    CLIPPED,
    IDENTITY,
    Clipped,
    Polynomial,
    Power,
    Swish,
    Tanh,
    quantize_gradient,
    straight_through,
)

# Without the places where a derivative jumps.
X = torch.linspace(-3.0137, 3.0171, 601, dtype=torch.float64)


def approx_sign(x):
    """Bi-Real Net's polynomial."""
    inner = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
    return torch.where(x.abs() < 1, inner, x.detach().sign())


def sign_swish(x, beta):
    s = torch.sigmoid(beta * x)
    return 2 * s * (1 + beta * x * (1 - s)) - 1


def power(x, o, limit):
    """ReSTE's function: the signed root, a line through 0 within 0.1, constant from its limit on."""
    size = x.abs().clamp_max(limit)
    inner = x / 0.1 * 0.1 ** (1 / o)
    return torch.where(x.abs() <= 0.1, inner, x.sign() * size ** (1 / o))


def slopes(progress, first=0.1, last=10.0):
    """IR-Net's t and k: t grows by the same factor in each part of training."""
    t = 10 ** (torch.log10(torch.tensor(first)) * (1 - progress) + torch.log10(torch.tensor(last)) * progress).item()
    return t, max(1 / t, 1)


CASES = [
    (IDENTITY, 0.0, lambda x: x),
    (CLIPPED, 0.0, lambda x: x.clamp(-1, 1)),
    (Clipped(2.5), 0.0, lambda x: x.clamp(-2.5, 2.5)),
    (Polynomial(), 0.0, approx_sign),
    (Swish(), 0.0, lambda x: sign_swish(x, 5.0)),
    (Swish(10.0), 0.0, lambda x: sign_swish(x, 10.0)),
    *((Tanh(), p, lambda x, p=p: slopes(p)[1] * torch.tanh(slopes(p)[0] * x)) for p in (0.0, 0.3, 0.5, 1.0)),
    *((Power(), p, lambda x, p=p: power(x, 1 + 2 * (1 - math.cos(p * math.pi / 2)), 1.5)) for p in (0.0, 0.4, 1.0)),
    (Power(2.0, 2.5), 1.0, lambda x: power(x, 2.0, 2.5)),
    (Tanh(1e-3), 0.25, lambda x: slopes(0.25, 1e-3)[1] * torch.tanh(slopes(0.25, 1e-3)[0] * x)),
]


@pytest.mark.parametrize(("gradient", "progress", "function"), CASES)
def test_a_gradient_is_the_derivative_of_its_function(gradient, progress, function):
    x = X.clone().requires_grad_()
    function(x).sum().backward()
    factor = gradient(X, progress)
    torch.testing.assert_close(torch.ones_like(X) if factor is None else factor, x.grad, rtol=1e-5, atol=1e-7)


def test_values_where_derivatives_jump():
    x = torch.tensor([-1.0, 0.0, 1.0])
    assert Clipped()(x).tolist() == [1, 1, 1]
    assert Clipped()(torch.tensor([-1.0001, 1.0001])).tolist() == [0, 0]
    assert Polynomial()(x).tolist() == [0, 2, 0]


def test_a_tanh_rises_from_a_line_to_nearly_a_step():
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    assert Tanh()(zero, 0.0).item() == pytest.approx(1)
    assert Tanh()(one, 0.0).item() == pytest.approx(1, abs=0.02)
    assert Tanh()(zero, 1.0).item() == pytest.approx(10)
    assert Tanh()(one, 1.0).item() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("gradient", [Clipped(), Polynomial(), Power(), Swish(), Tanh()], ids=repr)
def test_gradients_are_finite_for_large_inputs_in_every_precision(gradient, dtype):
    factor = gradient(torch.tensor([-6e4, -90.0, 90.0, 6e4], dtype=dtype), 1.0)
    assert factor.dtype == dtype
    assert torch.isfinite(factor).all()
    assert (factor.abs() < 1e-3).all()


def test_straight_through_gives_the_codes_themselves():
    # x + (q - x) is not always q in floating point.
    x = (1e8 * torch.randn(1000)).requires_grad_()
    q = torch.where(x >= 0, 1.0, -1.0)
    assert not torch.equal(x + (q - x), q)
    y = straight_through(x, lambda v: torch.where(v >= 0, 1.0, -1.0), lambda v: 3 * v)
    assert torch.equal(y, q)
    gradient = torch.randn(1000)
    y.backward(gradient)
    torch.testing.assert_close(x.grad, gradient * 3 * x.detach())


def test_gradients_are_values_that_copy_and_compare():
    assert copy.deepcopy(Tanh(0.5)) == Tanh(0.5) != Tanh()
    assert len({Clipped(), Clipped(1.0), Clipped(2.0)}) == 2


def gradients_of(g, bits, times):
    """What arrives before `quantize_gradient`, drawn many times: (times, *g.shape). Each example has its own scale and noise."""
    x = torch.zeros(times * len(g), *g.shape[1:], dtype=g.dtype, requires_grad=True)
    quantize_gradient(x, bits).backward(g.repeat(times, *[1] * (g.dim() - 1)))
    return x.grad.view(times, *g.shape)


def test_a_quantised_gradient_leaves_the_value_alone():
    x = torch.randn(2, 3)
    assert torch.equal(quantize_gradient(x, 2), x)


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_quantised_gradient_has_the_levels_of_its_example(bits):
    torch.manual_seed(bits)
    g = torch.randn(3, 4, 50, dtype=torch.float64) * torch.tensor([1e-6, 1.0, 300.0]).view(3, 1, 1)
    largest = g.abs().amax((1, 2), keepdim=True)
    levels = 2**bits - 1
    drawn = gradients_of(g, bits, 20)
    place = (drawn / (2 * largest) + 0.5) * levels
    torch.testing.assert_close(place, place.round(), rtol=0, atol=1e-9)
    assert place.min() >= -1e-9 and place.max() <= levels + 1e-9
    assert len(place.round().unique()) > levels / 2
    # No draw is further from the gradient than one level.
    assert ((drawn - g).abs() <= 2 * largest / levels * (1 + 1e-9)).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_quantised_gradient_is_right_on_average(bits):
    torch.manual_seed(bits)
    g = torch.randn(2, 30, dtype=torch.float64).clamp(-2, 2)
    g[:, 0] = 3.0  # the largest of each, which no noise may move
    g[:, 1] = 0.0
    times = 3000
    drawn = gradients_of(g, bits, times)
    width = 2 * 3.0 / (2**bits - 1)
    # A draw between two levels deviates by half a level at most.
    assert ((drawn.mean(0) - g).abs() <= 5 * width / 2 / times**0.5 + 1e-12).all()
    torch.testing.assert_close(drawn[:, :, 0], torch.full((times, 2), 3.0, dtype=torch.float64))


def test_a_quantised_gradient_in_bfloat16_is_right_on_average_too():
    torch.manual_seed(0)
    g = (0.1 * torch.rand(1, 60)).bfloat16()
    g[0, 0] = 1
    drawn = gradients_of(g, 8, 1000)
    assert drawn.dtype == torch.bfloat16
    width = 2 / 255
    assert ((drawn.double().mean(0) - g.double())[0, 1:].abs() <= 5 * width / 2 / 1000**0.5 + 2**-9 * 0.1).all()


def test_no_gradient_stays_none():
    assert gradients_of(torch.zeros(2, 3), 2, 1).abs().max() < 1e-30
