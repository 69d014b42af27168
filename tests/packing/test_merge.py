"""Folded scales and shifts compute what they did apart, and only fold where nothing else reads what lies between."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.packing.merge import FloatTensor, merge_scales
from onebit.program import Step

CHANNELS = 3


def run(steps, tensors, result):
    """Three of the ops, in plain NumPy."""
    values = {"input": np.random.default_rng(1).normal(size=(4, CHANNELS))}
    for step in steps:
        x = [values[name] for name in step.inputs]
        if step.op == "scale_shift":
            scaled = x[0] * tensors[step.tensors["scale"]]
            values[step.output] = scaled + tensors[step.tensors["shift"]] if "shift" in step.tensors else scaled
        elif step.op == "add":
            values[step.output] = x[0] + x[1]
        else:
            values[step.output] = np.maximum(x[0], 0)
    return values[result]


def scale_shift(x, output, name):
    return Step("scale_shift", (x,), output, {}, {"scale": f"{name}.scale", "shift": f"{name}.shift"})


def gain(x, output, name):
    return Step("scale_shift", (x,), output, {}, {"scale": f"{name}.scale"})


def tensors_of(steps, seed=0):
    rng = np.random.default_rng(seed)
    names = dict.fromkeys(name for step in steps for name in step.tensors.values())
    return {name: rng.normal(1, 0.5, CHANNELS).astype(np.float32) for name in names}


def merge(steps, result):
    """Merges, and checks that the result and the books are right; returns the merged steps and the floats that stayed."""
    tensors = tensors_of(steps)
    kept = [FloatTensor(name, CHANNELS, f"of {name.split('.')[0]}") for name in tensors]
    before = run(steps, tensors, result)
    merged = merge_scales(steps, tensors, kept, (result,))
    np.testing.assert_allclose(run(merged, tensors, result), before, rtol=1e-4, atol=1e-5)
    assert {name for step in merged for name in step.tensors.values()} == set(tensors)
    assert {t.name for t in kept} == set(tensors)
    assert all(t.dtype == np.float32 for t in tensors.values())
    return merged, kept


def test_a_chain_becomes_one_step():
    steps = [scale_shift("input", "a", "weight"), scale_shift("a", "b", "bias"), scale_shift("b", "c", "norm")]
    merged, kept = merge(steps, "c")
    assert [(s.op, s.inputs, s.output) for s in merged] == [("scale_shift", ("input",), "c")]
    assert [t.reason for t in kept] == ["of weight and of bias and of norm"] * 2


@pytest.mark.parametrize("first, second, shifted", [(gain, gain, 0), (gain, scale_shift, 1), (scale_shift, gain, 1)])
def test_a_shift_may_be_missing(first, second, shifted):
    merged, kept = merge([first("input", "a", "one"), second("a", "b", "other")], "b")
    assert [len(step.tensors) for step in merged] == [1 + shifted]
    assert len(kept) == 1 + shifted


def test_the_same_reason_is_named_once():
    steps = [scale_shift("input", "a", "norm"), scale_shift("a", "b", "norm.again")]
    _, kept = merge(steps, "b")
    assert [t.reason for t in kept] == ["of norm", "of norm"]


def test_a_chain_ends_at_another_op():
    steps = [
        scale_shift("input", "a", "one"),
        Step("relu", ("a",), "b", {}, {}),
        scale_shift("b", "c", "two"),
        scale_shift("c", "d", "three"),
    ]
    merged, _ = merge(steps, "d")
    assert [s.op for s in merged] == ["scale_shift", "relu", "scale_shift"]


def test_a_value_that_is_read_twice_stays():
    steps = [scale_shift("input", "a", "one"), scale_shift("a", "b", "two"), Step("add", ("a", "b"), "c", {}, {})]
    merged, _ = merge(steps, "c")
    assert merged == steps


def test_the_models_output_in_between_stays():
    steps = [scale_shift("input", "a", "one"), scale_shift("a", "b", "two")]
    merged, _ = merge(steps, "a")
    assert merged[0] == steps[0]


def test_a_layer_that_is_called_twice_keeps_its_tensors():
    steps = [
        scale_shift("input", "a", "shared"),
        scale_shift("a", "b", "own"),
        scale_shift("b", "c", "shared"),
        scale_shift("c", "d", "other"),
        scale_shift("d", "e", "last"),
    ]
    merged, kept = merge(steps, "e")
    assert [s.tensors["scale"] for s in merged] == ["shared.scale", "own.scale", "shared.scale", "last.scale"]
    assert {t.name: t.reason for t in kept}["last.scale"] == "of other and of last"


def test_steps_of_two_branches_that_stand_among_each_other():
    steps = [
        scale_shift("input", "a", "one"),
        scale_shift("input", "b", "two"),
        scale_shift("a", "c", "three"),
        scale_shift("b", "d", "four"),
        Step("add", ("c", "d"), "e", {}, {}),
    ]
    merged, _ = merge(steps, "e")
    assert [s.output for s in merged] == ["c", "d", "e"]


@st.composite
def programs(draw):
    """Steps of any kind over any earlier values, some with the tensors of an earlier step."""
    steps, values = [], ["input"]
    for i in range(draw(st.integers(1, 9))):
        # mostly of the latest value, so that there are chains
        recent = st.one_of(st.just(values[-1]), st.sampled_from(values))
        op = draw(st.sampled_from(["scale_shift"] * 4 + ["relu", "add"]))
        if op == "scale_shift":
            steps.append(scale_shift(draw(recent), f"v{i}", f"t{draw(st.integers(max(0, i - 2), i))}"))
        else:
            inputs = tuple(draw(recent) for _ in range(2 if op == "add" else 1))
            steps.append(Step(op, inputs, f"v{i}", {}, {}))
        values.append(f"v{i}")
    return steps, draw(st.sampled_from(values[1:]))


@settings(max_examples=100, deadline=None)
@given(programs())
def test_any_program_computes_what_it_did(program):
    merged, _ = merge(*program)
    assert merge(merged, program[1])[0] == merged  # nothing is left to fold
