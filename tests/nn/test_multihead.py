"""Compare the binary attention with PyTorch's own, with its bits as weights."""

import math

import pytest
import torch
from torch import nn

import onebit
from onebit.nn import BinaryMultiheadAttention
from onebit.schemes import BinaryNormalized, BinaryWeightNetwork


def pair(**options):
    """A binary attention, and PyTorch's with the weights that its bits compute."""
    torch.manual_seed(0)
    float_layer = nn.MultiheadAttention(12, 3, **options)
    for name, p in float_layer.named_parameters():
        if "bias" in name:
            nn.init.normal_(p)
    binary = nn.Sequential(float_layer)
    onebit.convert(binary, BinaryWeightNetwork(), keep=())
    twin = nn.MultiheadAttention(12, 3, **options)
    twin.load_state_dict(read(binary[0]))
    return binary[0].eval(), twin.eval()


def read(layer):
    """The state of `nn.MultiheadAttention` that has the weights of a binary one: signs times the mean magnitude of each output."""

    def weight(part):
        return part.weight.detach().sign() * part.weight.detach().abs().mean(1, keepdim=True)

    parts = [layer.query, layer.key, layer.value]
    state = {"out_proj.weight": weight(layer.out_proj)}
    if layer.out_proj.bias is not None:
        state["out_proj.bias"] = layer.out_proj.bias.detach()
        state["in_proj_bias"] = torch.cat([part.bias.detach() for part in parts])
    if layer.kdim == layer.vdim == layer.embed_dim:
        return state | {"in_proj_weight": torch.cat([weight(part) for part in parts])}
    return state | {f"{n}_proj_weight": weight(part) for n, part in zip("qkv", parts, strict=True)}


def same(a, b):
    assert (a is None) == (b is None)
    if a is not None:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kdim", "vdim"), [(None, None), (5, 7)])
def test_results_are_those_of_pytorchs(batch_first, bias, kdim, vdim):
    layer, twin = pair(batch_first=batch_first, bias=bias, kdim=kdim, vdim=vdim)
    q, k, v = torch.randn(4, 2, 12), torch.randn(5, 2, kdim or 12), torch.randn(5, 2, vdim or 12)
    if batch_first:
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    padding = torch.tensor([[False, False, False, True, True], [False] * 5])
    causal = torch.full((4, 5), -math.inf).triu(1)
    each_head = torch.randn(6, 4, 5)
    for options in (
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"key_padding_mask": padding},
        {"attn_mask": causal},
        {"attn_mask": causal == -math.inf, "key_padding_mask": padding},
        {"attn_mask": each_head, "key_padding_mask": padding, "need_weights": False},
        {"attn_mask": causal, "is_causal": True, "need_weights": False},
    ):
        for mine, its in zip(layer(q, k, v, **options), twin(q, k, v, **options), strict=True):
            same(mine, its)


def test_an_input_without_a_batch():
    layer, twin = pair()
    x, padding = torch.randn(4, 12), torch.tensor([False, False, True, False])
    for mine, its in zip(layer(x, x, x, padding), twin(x, x, x, padding), strict=True):
        assert mine.dim() == 2
        same(mine, its)


def test_dropout_acts_on_the_weights_while_training():
    layer, _ = pair(dropout=0.5)
    x = torch.ones(6, 1, 12)
    weights = layer.train()(x, x, x)[1]
    assert (weights == 0).any()
    assert (layer.eval()(x, x, x)[1] > 0).all()


def test_its_own_latents_learn():
    layer = BinaryMultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 3, 8)
    layer(x, x, x)[0].square().mean().mul(torch.randn(())).backward()
    layer(x, x, x)[0][..., 0].sum().backward()
    assert all(
        layer.get_parameter(f"{name}.weight").grad.abs().sum() > 0 for name in ("query", "key", "value", "out_proj")
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"is_causal": True}, "give attn_mask too"),
        ({"attn_mask": torch.zeros(2, 3)}, r"attn_mask of shape \(2, 3\): needs \(3, 3\) or \(4, 3, 3\)"),
        ({"key_padding_mask": torch.zeros(3, 3)}, r"key_padding_mask of shape \(3, 3\): needs \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    x = torch.randn(2, 3, 8)
    with pytest.raises(ValueError, match=message):
        BinaryMultiheadAttention(8, 2, batch_first=True)(x, x, x, **options)


def test_options_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="num_heads=3 does not divide embed_dim=8"):
        BinaryMultiheadAttention(8, 3)
    with pytest.raises(ValueError, match="normalize='batch'"):
        BinaryMultiheadAttention(8, 2, scheme=BinaryNormalized(normalize="batch"))
