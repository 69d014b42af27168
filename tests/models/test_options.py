"""Options of a decoder's blocks, for bits and floats alike: what each computes, that no token sees later ones, and the KV cache."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from packed_decoder import pack_and_compare, scattered

from onebit._engine import Decoder
from onebit.errors import RecipeError
from onebit.models import language_decoder
from onebit.nn import BinaryAttention, BinaryLinear, Normalize, TransformerBlock
from onebit.text import TextTask
from onebit.training import load_recipe
from onebit.training.jobs import build_model

SMALL = {"vocabulary": 40, "context": 12, "blocks": 2, "features": 16, "heads": 4, "head": (24,)}
WORDS = TextTask(("[PAD]", "[UNK]", "[SEP]", "a", "b"), "words")
OPTIONS = {
    "rms": {"norm": "rms"},
    "rotary": {"positions": "rotary"},
    "gated": {"mlp": "gated"},
    "grouped": {"kv_heads": 2},
    "squared": {"activation": "relu_squared", "hidden_widening": 4},
    "sub-norm": {"sub_norm": True},
    "all": {
        "norm": "rms",
        "positions": "rotary",
        "mlp": "gated",
        "kv_heads": 1,
        "activation": "relu_squared",
        "hidden_widening": 4 / 3,
        "sub_norm": True,
    },
}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("form", ["best", "paper"])
@pytest.mark.parametrize("option", OPTIONS)
def test_extending_equals_the_whole_and_no_token_sees_later_ones(option, form, binary):
    model = scattered(language_decoder(SMALL, binary, form=form, **OPTIONS[option]))
    tokens = torch.randint(0, 40, (2, 12))
    caches = model.caches()
    with torch.inference_mode():
        whole = model(tokens)
        made = [model.extend(tokens[:, a:b], caches) for a, b in ((0, 5), (5, 6), (6, 12))]
        changed = tokens.clone()
        changed[:, 7:] = (changed[:, 7:] + 1) % 40
        other = model(changed)
    torch.testing.assert_close(torch.stack(made, 1), whole[:, [4, 5, 11]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole[:, :7], other[:, :7], rtol=0, atol=1e-5)
    assert not torch.allclose(whole[:, 7:], other[:, 7:])


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_is_computed_and_learns(option):
    torch.manual_seed(0)
    model = language_decoder(SMALL, form="best", **OPTIONS[option])
    torch.manual_seed(0)
    plain = language_decoder(SMALL, form="best")
    tokens = torch.randint(0, 40, (4, 12))
    assert not torch.allclose(model(tokens), plain(tokens))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("grad", [True, False])
def test_grouped_heads_are_pytorchs(grad):
    attention = scattered(BinaryAttention(16, 4, kv_heads=2))
    x = torch.randn(2, 7, 16)
    with torch.set_grad_enabled(grad):
        q, k, v = (
            part(x).unflatten(-1, (heads, 4)).transpose(1, 2)
            for part, heads in ((attention.query, 4), (attention.key, 2), (attention.value, 2))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        expected = attention.out(mixed.transpose(1, 2).flatten(2))
        torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-4)
    assert attention.key.weight.shape == (8, 16)


def test_a_gated_block_with_normalised_projections_follows_its_formula():
    block = TransformerBlock(
        8, 2, 20, torch.nn.Linear, torch.nn.RMSNorm, 0.35, True, mlp="gated", activation="relu_squared", sub_norm=True
    )
    x = torch.randn(2, 5, 8)
    attention = block.attention
    attended = block.attention_norm(x)
    q, k, v = (
        part(attended).unflatten(-1, (2, 4)).transpose(1, 2)
        for part in (attention.query, attention.key, attention.value)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    y = x + 0.35 * attention.out(attention.out_norm(mixed))
    hidden = block.norm(y)
    hidden = block.gate(hidden).clamp(min=0) ** 2 * block.expand(hidden)
    expected = y + 0.35 * block.contract(block.hidden_norm(hidden))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
    assert TransformerBlock(8, 2, 20, torch.nn.Linear, torch.nn.RMSNorm, mlp="gated").activation._get_name() == "SiLU"


@pytest.mark.parametrize("form", ["best", "all-bits", "paper"])
def test_norms_have_parameters_where_the_form_learns_them(form):
    model = language_decoder(SMALL, form=form, norm="rms")
    norms = [m for m in model.modules() if isinstance(m, torch.nn.RMSNorm)]
    assert len(norms) == 1 + 2 * SMALL["blocks"] + (form != "paper")
    assert all((norm.weight is not None) == (form == "best") for norm in norms)
    # Those that a scheme has within its layers stay what they are.
    within = sum(isinstance(m, Normalize) for m in model.modules())
    assert within == (sum(isinstance(m, BinaryLinear) for m in model.modules()) + 2 if form == "paper" else 0)
    assert all(norm.weight is not None for norm in language_decoder(SMALL, False, form=form, norm="rms").modules()
               if isinstance(norm, torch.nn.RMSNorm))  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "norm='batch': use layer, rms"),
        ({"positions": None}, "positions=None: use learned, rotary"),
        ({"mlp": "wide"}, "mlp='wide': use plain, gated"),
        ({"activation": "tanh"}, "activation='tanh': use gelu, silu, relu_squared"),
        ({"kv_heads": 3}, "kv_heads=3 does not divide heads=4: use a divisor"),
        ({"kv_heads": 0}, "kv_heads=0 does not divide heads=4"),
        ({"hidden_widening": 0}, "hidden_widening=0: use a number that gives a feature"),
        ({"hidden_widening": 0.01}, "hidden_widening=0.01: use a number that gives a feature"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        language_decoder(SMALL, **options)


def test_a_head_of_an_odd_number_of_features_is_not_turned():
    with pytest.raises(ValueError, match="5 of 5 features of a head are not pairs: use an even number"):
        language_decoder({**SMALL, "features": 20}, positions="rotary")


def test_recipes_have_the_options():
    keys = OPTIONS["all"]
    model = build_model(load_recipe("tiny").override({**keys, "blocks": 1}), WORDS)
    block = model.blocks[0]
    assert (block.attention.kv_heads, block.expand.out_features) == (1, round(4 / 3 * 128))
    assert block.gate is not None
    assert model.embedding.positions is None
    assert {type(norm).__name__ for norm in (model.norm, block.hidden_norm, block.attention.out_norm)} == {"RMSNorm"}
    with pytest.raises(RecipeError, match="kv_heads=3 does not divide heads=4"):
        build_model(load_recipe("tiny").override({"kv_heads": 3}), WORDS)
    with pytest.raises(RecipeError, match="mlp='gated': use it with model=decoder"):
        load_recipe("lstm").override({"mlp": "gated"})


def test_the_size_of_the_packages_decoder_has_a_name():
    assert sum(p.numel() for p in language_decoder("books", form="best").parameters()) == pytest.approx(31e6, rel=0.01)


@pytest.mark.parametrize("form", ["best", "all-bits", "paper"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_packed_option_computes_what_pytorch_does(option, form, task, tmp_path):
    model = scattered(language_decoder({**SMALL, "vocabulary": 300}, form=form, **OPTIONS[option]))
    _, packed, tokens, expected = pack_and_compare(model, tmp_path / "a.onebit", task)
    # Token by token, by the KV cache.
    decoder = Decoder(packed.program.to_json(), packed.tensors, "float32", 1)
    sequence = decoder.open()
    single = [decoder.extend([sequence], [1], tokens[place : place + 1].astype(np.int32)) for place in range(12)]
    np.testing.assert_allclose(np.concatenate(single), expected, rtol=1e-4, atol=1e-4)
