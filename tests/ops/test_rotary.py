"""Rotary positions: the frequencies are those of transformers, the tables those of the formulas, and the engine's have the same bits."""

import numpy as np
import pytest

from onebit._engine import Decoder
from onebit.ops import OPS
from onebit.ops.rotary import cosine_and_sine, frequencies, tables
from onebit.program import Program, Step

YARN = {"kind": "yarn", "factor": 4.0, "original_context": 8192, "beta_fast": 32, "beta_slow": 1}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "original_context": 8192, "high_freq_factor": 4.0, "low_freq_factor": 1.0}
SCALINGS = [None, {"kind": "linear", "factor": 4.0}, YARN, {**YARN, "attention_factor": 1.3}, LLAMA3]


def test_cosines_and_sines_are_those_of_wider_numbers():
    angles = np.concatenate([np.random.default_rng(0).uniform(0, 2**24, 5000), np.arange(5000) * 0.8659643])
    cosine, sine = cosine_and_sine(angles)
    wide = angles.astype(np.longdouble)
    assert np.abs(cosine - np.cos(wide)).max() < 2.0**-51
    assert np.abs(sine - np.sin(wide)).max() < 2.0**-51


@pytest.mark.parametrize("rotated, base", [(128, 1e6), (64, 5e5), (80, 1e4)])
@pytest.mark.parametrize("scaling", SCALINGS[1:], ids=lambda s: s["kind"])
def test_scaled_frequencies_are_those_of_transformers(rotated, base, scaling):
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    names = {"kind": "rope_type", "original_context": "original_max_position_embeddings"}
    rope = {names.get(name, name): value for name, value in scaling.items()} | {"rope_theta": base}
    config = transformers.LlamaConfig(
        hidden_size=2 * rotated, num_attention_heads=2, max_position_embeddings=32768, rope_parameters=rope
    )
    expected, factor = ROPE_INIT_FUNCTIONS[scaling["kind"]](config, device="cpu")
    found, found_factor = frequencies({"base": base, "scaling": scaling}, rotated)
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-6)
    assert found_factor == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["kind"] if s else "none")
def test_the_engine_has_the_bits_of_the_reference_at_every_position(scaling):
    time, rotated = 3000, 64
    attributes = {"heads": 1, "base": 500_000.0} | ({"scaling": scaling} if scaling else {})
    # A row of ones and zeros turns to the cosines and the sines.
    row = np.repeat(np.float32([[1, 0]]), rotated // 2, 1)
    embed = Step("embedding", ("x",), "e", {"rows": 1, "features": rotated, "of": "token"}, {"weight": "table"})
    program = Program("x", (time,), (embed, Step("rotary", ("e",), "y", attributes)), "y", tokens=True)
    decoder = Decoder(program.to_json(), {"table": row}, "float32", 1, "")
    sequence = decoder.open()
    found = np.concatenate([decoder.extend([sequence], [1000], np.zeros(1000, np.int32), all=True) for _ in range(3)])
    expected = np.concatenate(tables(attributes, rotated, time), 1)
    assert np.array_equal(found, expected)


def test_a_turn_keeps_the_length_and_leaves_what_is_not_rotated():
    x = np.random.default_rng(1).standard_normal((2, 7, 24)).astype(np.float32)
    y = OPS["rotary"].run({"heads": 2, "base": 100.0, "rotated": 8}, {}, "float32", x)
    assert np.array_equal(y[:, 0], x[:, 0])
    heads, turned = (z.reshape(2, 7, 2, 12) for z in (x, y))
    assert np.array_equal(turned[..., 8:], heads[..., 8:])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(heads, axis=-1), rtol=1e-5)
    angle = 5 * 100.0 ** (-2 / 8)
    expected = heads[:, 5, :, 1] * np.cos(angle) - heads[:, 5, :, 5] * np.sin(angle)
    np.testing.assert_allclose(turned[:, 5, :, 1], expected, rtol=1e-5, atol=1e-6)
