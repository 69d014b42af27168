"""Every type of blocks against known bytes: those of ggml's own quantisers, or written from their sources digit by digit."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from onebit.importing.blocks import CODINGS, Q2_0_G128, Levels, Signs
from onebit.importing.kept import to_bytes

KNOWN = json.loads(Path(__file__).with_name("known_blocks.json").read_text())
BY_NAME = {coding.name: coding for coding in CODINGS.values()}


def stored(name):
    known = KNOWN[name]
    content = np.frombuffer(base64.b64decode(known["bytes"]), np.uint8)
    values = np.frombuffer(base64.b64decode(known["values"]), np.float32).reshape(known["rows"], known["columns"])
    return content.reshape(known["rows"], -1, BY_NAME[name].block_bytes), values


def test_every_type_has_known_bytes():
    assert {*KNOWN, "F32"} == set(BY_NAME)


@pytest.mark.parametrize("name", KNOWN)
def test_known_bytes_have_the_known_values(name):
    blocks, values = stored(name)
    found = BY_NAME[name].decode(blocks)
    floats = found if isinstance(found, np.ndarray) else found.floats()
    assert floats.dtype == np.float32 and np.array_equal(floats, values)


@pytest.mark.parametrize("name", ["Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "PQ2_0", "PTQ1_0", "I2_S"])
def test_few_bits_stay_codes(name):
    blocks, values = stored(name)
    found = BY_NAME[name].decode(blocks)
    assert isinstance(found, Signs if name == "Q1_0" else Levels)
    assert len(found.scales) == len(values) and found.scales.dtype == np.float32
    if isinstance(found, Levels):
        assert found.codes.dtype == np.int8 and set(np.unique(found.codes)) <= {-1, 0, 1, 2}


def test_floats_are_themselves():
    values = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    assert np.array_equal(BY_NAME["F32"].decode(values.view(np.uint8).reshape(3, 7, 4)), values)


def test_the_older_form_of_q2_0_is_that_of_pq2_0():
    blocks, values = stored("PQ2_0")
    assert np.array_equal(Q2_0_G128.decode(blocks).floats(), values)


def test_a_block_of_bits_by_hand():
    # A scale of 1.0 is 00 3c. The lowest bit of the first byte is the first weight.
    block = np.array([0x00, 0x3C, 0b0000_0101, *[0] * 15], np.uint8).reshape(1, 1, 18)
    assert BY_NAME["Q1_0"].decode(block).floats()[0, :4].tolist() == [1, -1, 1, -1]
    block = np.array([0x00, 0x3C, 0b11_10_01_00, *[0b01010101] * 15], np.uint8).reshape(1, 1, 18)
    assert BY_NAME["Q2_0"].decode(block).floats()[0, :5].tolist() == [-1, 0, 1, 2, 0]


def test_bytes_fit_levels_of_one_distance():
    chance = np.random.default_rng(3)
    step, least = chance.uniform(0.5, 2, (50, 4, 1)), chance.uniform(-16, 1, (50, 4, 1))
    values = ((chance.integers(0, 16, (50, 4, 32)) + least) * step).reshape(50, -1).astype(np.float32)
    values[3, :32], values[4, :32], values[5, :32] = 0, 1.5, values[5, :32] * 1e-3

    def error(even):
        codes, scales = to_bytes(values, 32, even)
        assert codes.dtype == np.int8 and codes.min() >= -127 and np.isfinite(scales).all()
        again = codes * np.repeat(scales.astype(np.float32), 32, axis=1)
        assert np.abs(again - values).max() <= np.abs(values).max() / 120
        return np.sqrt(np.square(again - values).mean() / np.square(values).mean())

    assert error(True) < 0.6 * error(False)
    assert not to_bytes(values, 32, True)[0][3, :32].any()
    # All values of a group alike keep the precision of their scale.
    codes, scales = to_bytes(values[4:5, :32], 32, True)
    assert abs(codes[0, 0] * float(scales[0, 0]) - 1.5) < 1e-3
