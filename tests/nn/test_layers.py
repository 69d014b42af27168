"""Compare the binary layers with PyTorch's own operations on their bits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.nn import BinaryConv2d, BinaryLinear, Normalize
from onebit.schemes import BinaryNormalized


def read(bits, values):
    return bits.float() if values == "01" else 2 * bits.float() - 1


def standardised(x, dims):
    return (x - x.mean(dims, keepdim=True)) / torch.sqrt(x.var(dims, keepdim=True, unbiased=False) + 1e-5)


DIMS = {"channel": 1, "example": (1, 2, 3), "batch": (0, 2, 3)}


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 3),
    per_group=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, 2]),
    dilation=st.integers(1, 2),
    values=st.sampled_from(["01", "pm1"]),
    over=st.sampled_from(["channel", "example", "batch", None]),
)
def test_conv2d_is_a_convolution_of_its_bits_then_normalised(
    groups, per_group, kernel, stride, padding, dilation, values, over
):
    layer = BinaryConv2d(
        groups * per_group[0],
        groups * per_group[1],
        kernel,
        stride,
        padding,
        dilation,
        groups,
        scheme=BinaryNormalized(values, normalize=over),
    )
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(3, groups * per_group[0], 9, 8)
    bits = layer.bits()
    expected = F.conv2d(x, read(bits.weight, values), read(bits.bias, values), stride, padding, dilation, groups)
    if over is not None:
        expected = standardised(expected, DIMS[over])
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("over", ["channel", "example", "batch", None])
def test_linear_is_a_product_with_its_bits_then_normalised(values, over):
    layer = BinaryLinear(11, 6, scheme=BinaryNormalized(values, normalize=over))
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(8, 11)
    expected = F.linear(x, read(layer.bits().weight, values), read(layer.bits().bias, values))
    if over is not None:
        expected = standardised(expected, 0 if over == "batch" else 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("over", ["channel", "example", "batch"])
def test_channels_last_memory_changes_nothing(over):
    layer = BinaryConv2d(4, 6, 3, scheme=BinaryNormalized("pm1", normalize=over))
    x = torch.randn(2, 4, 7, 5)
    torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), layer(x), rtol=1e-4, atol=1e-5)


def test_both_values_are_one_function_under_channel_normalisation():
    zero_one = BinaryConv2d(16, 32, 3, padding=1, bias=False)
    plus_minus = BinaryConv2d(16, 32, 3, padding=1, bias=False, scheme=BinaryNormalized("pm1"))
    plus_minus.load_state_dict(zero_one.state_dict())
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(zero_one(x), plus_minus(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("over", ["channel", "example"])
def test_a_sequence_is_never_normalised_over_time(over):
    layer = BinaryLinear(4, 8, scheme=BinaryNormalized(normalize=over))
    x = torch.randn(2, 5, 4)  # (batch, time, features)
    changed = x.clone()
    changed[:, 3:] += 1
    assert torch.equal(layer(x)[:, :3], layer(changed)[:, :3])
    assert not torch.equal(layer(x)[:, 3:], layer(changed)[:, 3:])


def test_latents_start_as_the_paper_says():
    layer = BinaryLinear(300, 200)
    limit = (6 / 500) ** 0.5
    assert layer.weight.abs().max() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)
    assert not layer.bias.any()
    assert not layer.bits().bias.any()


def test_batch_statistics_in_evaluation_are_the_running_ones():
    layer = Normalize("batch", 3, momentum=1.0)
    x = torch.randn(64, 3, 5, 5) * 4 + 2
    layer(x)
    layer.eval()
    y = layer(x[:1])
    variance = x.var((0, 2, 3), unbiased=True)
    expected = (x[:1] - x.mean((0, 2, 3)).view(1, 3, 1, 1)) / torch.sqrt(variance + 1e-5).view(1, 3, 1, 1)
    torch.testing.assert_close(y, expected)


def test_training_moves_bits():
    torch.manual_seed(0)
    layer = BinaryLinear(8, 4)
    before = layer.bits().weight
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    x, target = torch.randn(32, 8), torch.randint(0, 4, (32,))
    first = F.cross_entropy(layer(x), target)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), target)
        loss.backward()
        optimizer.step()
    assert loss < first
    assert not torch.equal(before, layer.bits().weight)


@pytest.mark.parametrize(
    "layer", [BinaryLinear(6, 5), BinaryLinear(6, 5, scheme=BinaryNormalized("pm1", normalize="batch"))]
)
def test_torch_compile_keeps_results_and_gradients(layer):
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    x = torch.randn(7, 6)
    torch.testing.assert_close(compiled(x), layer(x))
    compiled(x).square().sum().backward()
    layer(x).square().sum().backward()
    torch.testing.assert_close(compiled.weight.grad, layer.weight.grad)


def test_autocast_matches_float32_within_bfloat16():
    layer = BinaryConv2d(8, 16, 3, padding=1)
    x = torch.randn(2, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryConv2d(64, 64, 3, groups=3), r"groups=3 does not divide in_channels=64: use one of 1, 2, 4"),
        (lambda: Normalize("batch"), r"give features="),
        (lambda: Normalize("time"), r"over='time': use"),
        (lambda: Normalize(eps=0), r"eps=0: use a number above 0"),
    ],
)
def test_wrong_choices_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_bias_that_the_batchs_mean_takes_away_again_does_not_move():
    layer = BinaryLinear(6, 4, scheme=BinaryNormalized("pm1", normalize="batch"))
    torch.nn.init.normal_(layer.bias)
    layer(torch.randn(8, 6)).square().sum().backward()
    assert torch.equal(layer.bias.grad, torch.zeros(4))
    other = BinaryLinear(6, 4, scheme=BinaryNormalized("pm1"))
    torch.nn.init.normal_(other.bias)
    (other(torch.randn(8, 6)) * torch.randn(8, 4)).sum().backward()
    assert (other.bias.grad != 0).all()
