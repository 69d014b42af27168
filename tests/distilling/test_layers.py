"""Layers with a learned scale for each group: values, gradients, and what is stored of them."""

import numpy as np
import pytest
import torch

from onebit.distilling.layers import GroupScaledLinear, best_scales
from onebit.distilling.start import compensate


def layer(levels, group=32, seed=0):
    torch.manual_seed(seed)
    return GroupScaledLinear(torch.randn(6, 64), group, levels)


@pytest.mark.parametrize("levels", ["bits", "ternary"])
def test_a_layer_computes_with_the_weights_that_are_stored(levels):
    made = layer(levels)
    x = torch.randn(3, 5, 64)
    stored = torch.from_numpy(made.decoded().floats())
    assert torch.allclose(made(x), x @ stored.T, atol=1e-5)
    values = np.unique(np.round(stored.numpy() / np.repeat(made.decoded().scales, 32, 1), 5))
    assert values.tolist() == ([-1, 1] if levels == "bits" else [-1, 0, 1])


def by_formula(w, scale, levels):
    """The same weights, with gradients by PyTorch: the latents' is the identity, the scale's that of LSQ."""
    u = w.unflatten(1, (-1, 32)) / scale[..., None].half().float()
    inside = (u.abs() < 1).float()
    q = u.round().clamp(-1, 1) if levels == "ternary" else torch.where(u >= 0, 1.0, -1.0)
    of_scale = (q - u * inside if levels == "ternary" else q).detach()
    return (q.detach() * scale[..., None].half().float()).detach().flatten(1) + (
        w - w.detach() + ((scale - scale.detach())[..., None] * of_scale).flatten(1)
    )


@pytest.mark.parametrize("levels", ["bits", "ternary"])
def test_gradients_are_those_of_the_formula(levels):
    made = layer(levels)
    w, scale = (p.detach().clone().requires_grad_() for p in (made.weight, made.scale))
    x, wanted = torch.randn(7, 64), torch.randn(7, 6)
    (made(x) - wanted).square().sum().backward()
    (x @ by_formula(w, scale, levels).T - wanted).square().sum().backward()
    assert torch.allclose(made.weight.grad, w.grad, rtol=1e-4, atol=1e-4)
    assert torch.allclose(made.scale.grad, scale.grad, rtol=1e-3, atol=1e-2)


def test_the_best_scales_of_ternary_weights_are_their_own():
    codes = torch.tensor([[1.0, -1.0, 0.0, 1.0] * 8, [0.0] * 31 + [1.0]])
    assert torch.allclose(best_scales(0.37 * codes[:1], 32, "ternary"), torch.tensor([[0.37]]))
    w = torch.randn(20, 128, generator=torch.Generator().manual_seed(1))
    best = best_scales(w, 64, "ternary")

    def error(scale):
        u = w.unflatten(1, (-1, 64))
        return ((u / scale[..., None]).round().clamp(-1, 1) * scale[..., None] - u).square().sum()

    mean = w.unflatten(1, (-1, 64)).abs().mean(-1)
    assert error(best) < 0.95 * error(mean)
    assert error(best) <= min(error(best * 1.03), error(best * 0.97))


@pytest.mark.parametrize("levels", ["bits", "ternary"])
def test_independent_inputs_leave_nothing_to_make_up_for(levels):
    w = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    latents, scales = compensate(w, 3 * torch.eye(64), 32, levels)
    assert torch.allclose(latents, w, atol=1e-5)
    assert torch.allclose(scales, best_scales(w, 32, levels), rtol=1e-4)


@pytest.mark.parametrize("levels", ["bits", "ternary"])
def test_what_is_rounded_is_made_up_for_where_inputs_go_together(levels):
    random = torch.Generator().manual_seed(3)
    x = torch.randn(400, 8, generator=random) @ torch.randn(8, 64, generator=random)
    x = x + 0.3 * torch.randn(400, 64, generator=random)
    plain = GroupScaledLinear(torch.randn(10, 64, generator=random), 32, levels)
    made = GroupScaledLinear(plain.weight, 32, levels)
    latents, scales = compensate(plain.weight.detach(), x.T @ x, 32, levels)
    with torch.no_grad():
        made.weight.copy_(latents)
        made.scale.copy_(scales)
    wanted = x @ plain.weight.T
    assert (made(x) - wanted).square().mean() < 0.5 * (plain(x) - wanted).square().mean()
