"""Compare embedding, attention and transformer block with plain formulas on their bits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.nn import (
    BinaryAttention,
    BinaryEmbedding,
    BinaryLinear,
    BinaryTransformerBlock,
    KeyValueCache,
    TokenPositionEmbedding,
)
from onebit.nn.attention import causal_attention
from onebit.schemes import BinaryNormalized


def read(bits, values):
    return bits.float() if values == "01" else 2 * bits.float() - 1


def standardised(x):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)


def scatter(module):
    """Latents that give bits of both kinds everywhere, biases too."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 9), features=st.integers(2, 12), values=st.sampled_from(["01", "pm1"]), bias=st.booleans())
def test_embedding_is_a_dense_layer_of_one_hot_vectors(rows, features, values, bias):
    layer = scatter(BinaryEmbedding(rows, features, bias, scheme=BinaryNormalized(values)))
    tokens = torch.randint(0, rows, (3, 5))
    bits = layer.bits()
    expected = torch.nn.functional.one_hot(tokens, rows).float() @ read(bits.weight, values)
    if bias:
        expected = expected + read(bits.bias, values)
    torch.testing.assert_close(layer(tokens), standardised(expected), rtol=1e-4, atol=1e-4)


def test_embedding_gives_gradients_to_the_rows_that_were_looked_up():
    layer = BinaryEmbedding(6, 4, scheme=BinaryNormalized(normalize=None))
    layer(torch.tensor([[1, 4, 4]])).sum().backward()
    assert layer.weight.grad.sum(1).tolist() == [0, 4, 0, 0, 8, 0]


def test_positions_are_added_and_limited():
    embedding = TokenPositionEmbedding(10, 4, 8)
    tokens = torch.tensor([[3, 3]])
    expected = embedding.tokens(tokens) + embedding.positions(torch.tensor([2, 3]))
    torch.testing.assert_close(embedding(tokens, start=2), expected)
    with pytest.raises(ValueError, match="5 positions: this model has 4"):
        embedding(tokens, start=3)


@pytest.mark.parametrize("values", ["01", "pm1"])
def test_attention_follows_its_formula(values):
    layer = scatter(BinaryAttention(12, 3, scheme=BinaryNormalized(values)))
    x = torch.randn(2, 7, 12)
    q, k, v = (part(x).unflatten(-1, (3, 4)).transpose(1, 2) for part in (layer.query, layer.key, layer.value))
    scores = q @ k.transpose(-1, -2) / math.sqrt(4) + torch.full((7, 7), -torch.inf).triu(1)
    expected = layer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_attention_with_a_cache_equals_attention_without():
    layer = scatter(BinaryAttention(8, 2))
    x = torch.randn(2, 9, 8)
    cache = KeyValueCache(room=3)
    with torch.no_grad():
        pieces = [layer(x[:, a:b], cache) for a, b in ((0, 4), (4, 5), (5, 9))]
    torch.testing.assert_close(torch.cat(pieces, 1), layer(x), rtol=1e-4, atol=1e-4)
    assert cache.length == 9


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_attention_is_pytorchs_with_its_gradients(dtype):
    q, k, v, towards = (torch.randn(2, 3, 9, 4, dtype=dtype) for _ in range(4))
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    expected = [t.clone().requires_grad_() for t in (q, k, v)]
    ours = causal_attention(*inputs)
    theirs = torch.nn.functional.scaled_dot_product_attention(*expected, is_causal=True)
    (ours * towards).sum().backward()
    (theirs * towards).sum().backward()
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(inputs, expected, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    with torch.no_grad():
        assert torch.equal(causal_attention(q, k, v), theirs)


def test_heads_must_divide_the_features():
    with pytest.raises(ValueError, match=r"\[BinaryAttention\] heads=3 does not divide features=8"):
        BinaryAttention(8, 3)


def test_block_follows_its_formula():
    block = scatter(BinaryTransformerBlock(8, 2, residual_scale=0.35))
    x = torch.randn(2, 5, 8)
    y = standardised(x + 0.35 * block.attention(x))
    hidden = torch.nn.functional.gelu(block.expand(y))
    torch.testing.assert_close(block(x), standardised(y + 0.35 * block.contract(hidden)), rtol=1e-4, atol=1e-4)
    assert block.expand.out_features == 16
    assert all(isinstance(m, BinaryLinear) for m in block.modules() if isinstance(m, torch.nn.Linear))


def test_a_pre_norm_block_leaves_the_sum_as_it_is():
    block = scatter(BinaryTransformerBlock(8, 2, residual_scale=0.35, pre_norm=True))
    x = torch.randn(2, 5, 8)
    y = x + 0.35 * block.attention(standardised(x))
    hidden = torch.nn.functional.gelu(block.expand(standardised(y)))
    torch.testing.assert_close(block(x), y + 0.35 * block.contract(hidden), rtol=1e-4, atol=1e-4)


def test_the_future_never_reaches_the_past():
    # A normalisation over time, or a mask that does not mask, would fail here.
    block = scatter(BinaryTransformerBlock(8, 2))
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] = torch.randn(1, 2, 8)
    before, after = block(x), block(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_latent_spread_scales_glorot():
    torch.manual_seed(0)
    plain = BinaryLinear(50, 70)
    torch.manual_seed(0)
    small = BinaryLinear(50, 70, scheme=BinaryNormalized(latent_spread=0.25))
    torch.testing.assert_close(small.weight, 0.25 * plain.weight)
    assert plain.weight.abs().max() <= math.sqrt(6 / 120)
    with pytest.raises(ValueError, match="latent_spread=0: use a number above 0"):
        BinaryNormalized(latent_spread=0)
    with pytest.raises(ValueError, match="'batch' applies to images"):
        BinaryEmbedding(3, 3, scheme=BinaryNormalized(normalize="batch"))
