"""A short run of `make differential`, and a test that its comparison finds errors."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import compare
import differential
import error_bounds
import features
import random_programs

from onebit._engine import Engine
from onebit.ops import OPS
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference


def test_the_engine_and_the_reference_agree_on_random_programs():
    found = differential.tally(1_000_000, 200, compare.SUPPORTED, False)
    assert found.count == 200
    assert found.wrong == []
    # Bounds that allow everything would find nothing.
    assert found.exact / found.count > 0.1
    assert found.loose / found.count < 0.2
    assert found.unjudged / found.count < 0.1


def test_a_scale_that_is_not_a_number_does_not_reach_places_between_pixels():
    attributes = {"in_channels": 1, "out_channels": 1, "kernel_size": [1, 1], "stride": [2, 2], "padding": [0, 0, 0, 0]}
    attributes |= {"output_padding": [1, 1], "groups": 1, "values": "01"}
    step = Step("bit_conv_transpose2d", ("x",), "y", attributes, {"weight": "w", "bias": "b"})
    tensors = {"w": pack_rows(np.ones((1, 1))), "b": pack_rows(np.ones((1, 1)))}
    program, x = Program("x", (1, 1, 1), (step,), "y"), np.full((1, 1, 1, 1), np.nan, np.float32)
    for y in (
        reference.run(program, tensors, x, "int8"),
        Engine(program.to_json(), tensors, "int8", 1, "").run(x),
    ):
        assert np.array_equal(y.reshape(-1), [np.nan, 1, 1, 1], equal_nan=True)


def test_a_seed_always_gives_the_same_program():
    one, other = random_programs.make(7), random_programs.make(7)
    assert one.program == other.program
    assert np.array_equal(one.x, other.x, equal_nan=True)
    assert random_programs.make(8).program != one.program


def test_programs_have_all_ops_and_quantizers():
    seen = set()
    for seed in range(600):
        seen |= features.features_of(random_programs.make(seed, small=True))
    # Rare pairs of an op and an attribute take more programs; a long run asserts them all.
    assert len(features.expected_features() - seen) < 20
    assert seen <= features.expected_features()


def test_a_program_may_not_leave_the_command_without_a_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["differential.py", "--count", "3", "--jobs", "1", "--isas", "scalar"])
    assert differential.main() == 0
    assert "3 programs in" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["differential.py", "--isas", "z80"])
    with pytest.raises(SystemExit):
        differential.main()
    assert "this machine has" in capsys.readouterr().err


class Off:
    """An engine whose outputs are off by a little where they are above 0."""

    def __init__(self, *arguments):
        self.engine = compare_engine(*arguments)

    def run(self, x):
        y = self.engine.run(x)
        return np.where(y > 0, y * np.float32(1 + 1e-4), y)


compare_engine = compare.Engine


def image_case():
    weight = pack_rows(np.random.default_rng(0).integers(0, 2, (16, 9 * 3)))
    attributes = {
        "in_channels": 3, "out_channels": 16, "kernel_size": [3, 3], "stride": [1, 1], "padding": [1] * 4, "dilation": [1, 1], "groups": 1,
        "values": "pm1",
    }  # fmt: skip
    steps = (
        Step("relu", ("x",), "a"),
        Step("bit_conv2d", ("a",), "b", attributes, {"weight": "w"}),
        Step("normalize", ("b",), "c", {"over": "channel", "eps": 1e-3}),
        Step("gelu", ("c",), "d"),
        Step("mean_pool", ("d",), "e"),
    )
    x = np.random.default_rng(1).standard_normal((2, 6, 5, 3)).astype(np.float32)
    return random_programs.Case(Program("x", (6, 5, 3), steps, "e"), {"w": weight}, x, "float32", 2)


def test_a_wrong_engine_is_found_and_its_program_made_small(monkeypatch):
    case = image_case()
    assert compare.judge(case).wrong == []
    monkeypatch.setattr(compare, "Engine", Off)
    wrong = compare.judge(case, ["scalar"]).wrong
    assert len(wrong) == 1
    assert wrong[0].startswith("scalar: ")
    small = compare.shrink(case, ["scalar"])
    assert len(small.program.steps) == 1
    assert len(small.x) == 1
    assert small.threads == 1


def test_a_wrong_reference_is_found(monkeypatch):
    monkeypatch.setitem(OPS, "gelu", OPS["relu"])
    assert compare.judge(image_case(), []).wrong[0].startswith("the NumPy reference: ")


def test_threads_must_give_the_same_bits(monkeypatch):
    class Uneven(Off):
        def __init__(self, text, tensors, precision, threads, isa):
            super().__init__(text, tensors, precision, threads, isa)
            self.threads = threads

        def run(self, x):
            y = self.engine.run(x)
            return y if self.threads == 1 else np.nextafter(y, np.float32(9))

    monkeypatch.setattr(compare, "Engine", Uneven)
    (wrong,) = compare.judge(image_case(), ["scalar"]).wrong
    assert wrong.startswith("scalar, 2 threads, not the same bits as scalar: ")


def test_instruction_sets_must_give_the_same_bits(monkeypatch):
    class Other(Off):
        def __init__(self, text, tensors, precision, threads, isa):
            super().__init__(text, tensors, precision, threads, "scalar")
            self.isa = isa

        def run(self, x):
            y = self.engine.run(x)
            return y if self.isa == "scalar" else np.nextafter(y, np.float32(9))

    monkeypatch.setattr(compare, "Engine", Other)
    wrong = compare.judge(replace(image_case(), threads=1), ["scalar", "vectors"]).wrong
    assert [line.split(":")[0] for line in wrong] == ["vectors, not the same bits as scalar"]


@pytest.mark.parametrize("kind", random_programs.INPUTS, ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_levels_of_numbers_within_their_bounds_are_within_theirs(kind, signed):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 30)).astype(np.float32)
    if not signed:
        x = np.abs(x)
    x[:, :4] = np.round(x[:, :4] * 2) / 2  # on thresholds
    error = np.where(rng.integers(0, 3, x.shape) == 0, 0, rng.uniform(0, 0.05, x.shape))
    given = error_bounds.quantized(error_bounds.Value(x, error), (1,), kind)
    assert np.array_equal(error_bounds.quantized(error_bounds.exactly(x), (1,), kind).error, np.zeros(x.shape))
    largest = 0.0
    for _ in range(50):
        other = (x + error * rng.choice([-0.99, 0.99, 0.5, 0], x.shape)).astype(np.float32)
        levels = error_bounds.quantized(error_bounds.exactly(other), (1,), kind)
        off = np.abs(levels.q * levels.scale.astype(np.float64) - given.q * given.scale.astype(np.float64))
        assert np.all(off <= given.error + 1e-6)
        largest = max(largest, off.max())
    assert largest > 0


def test_what_is_promised_exactly_has_the_bound_0():
    case = image_case()
    steps = case.program.steps[:2]
    for precision, exact in (("int8", True), ("float32", False)):
        values = error_bounds.run(replace(case.program, steps=steps, output="b"), case.tensors, case.x, precision)
        assert (values["b"].error == 0).all() == exact


def test_nothing_is_promised_of_zero_times_what_may_be_anything():
    unknown = error_bounds.Value(np.zeros((1, 2), np.float32), np.full((1, 2), np.inf))
    scale, shift = np.array([0, 1], np.float32), np.array([3, 3], np.float32)
    assert np.isinf(error_bounds._scale_shift(unknown, scale, shift).error).all()
