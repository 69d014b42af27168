"""Recurrences in the engine, over rows of features and over tokens: compare with PyTorch and the NumPy reference, and test refusals."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit._engine import Decoder, Engine, isas
from onebit.errors import FormatError
from onebit.ops import OPS
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference

ISAS = [isa["name"] for isa in isas() if isa["supported"]]
LEVELS = [
    {"quantizer": "sign"},
    {"quantizer": "unit", "bits": 4},
    {"quantizer": "absmax", "bits": 8},
    {"quantizer": "absmax", "bits": 16},
]
KINDS = ["lstm", "gru", "bit_lstm", "bit_gru"]
GATES = {"lstm": 4, "gru": 3, "bit_lstm": 4, "bit_gru": 3}


def recurrence(kind, hidden, seed=0, name="", **attributes):
    """A step from "gates" to "y", and its tensors."""
    random = np.random.default_rng(seed)
    count = GATES[kind] * hidden
    tensors = {f"{name}shift": random.standard_normal(count).astype(np.float32)}
    roles = {"weight": f"{name}w", "shift": f"{name}shift"}
    attributes = {"hidden": hidden, **attributes}
    if kind.startswith("bit_"):
        attributes = {"values": "pm1", **attributes}
        planes = len(attributes.get("planes", [1]))
        tensors[f"{name}w"] = pack_rows(random.integers(0, 2, (planes * count, hidden)))
        tensors[f"{name}scale"] = (random.uniform(0.5, 1.5, count) / hidden**0.5).astype(np.float32)
        roles["scale"] = f"{name}scale"
    else:
        tensors[f"{name}w"] = (random.standard_normal((count, hidden)) / hidden**0.5).astype(np.float32)
        if kind == "lstm":
            del roles["shift"]
    return Step(kind, ("gates",), "y", attributes, roles), tensors


def gates_of(kind, hidden, time=9, seed=0):
    return np.random.default_rng(seed).standard_normal((2, time, GATES[kind] * hidden)).astype(np.float32)


def made_by_engine(step, tensors, x, precision, isa=None, threads=1):
    program = Program("gates", x.shape[1:], (step,), "y")
    program.shapes(tensors)
    return Engine(program.to_json(), tensors, precision, threads, isa).run(x)


def expected_behind(made, step, tensors, x, precision):
    """What the reference makes of each time step where the hidden state before it is the engine's own.

    A number that lies between two levels may be rounded to either, and everything after it then differs: so each step is judged by itself.
    """
    named = {role: tensors[name] for role, name in step.tensors.items()}
    op = OPS[step.op]
    product = op.product(step.attributes, named, precision)
    reverse = step.attributes.get("reverse", False)
    states = iter([np.zeros_like(made[:, 0]), *np.moveaxis(made[:, ::-1] if reverse else made, 1, 0)])
    return op.cell.recur(x, lambda h: product(next(states)), reverse)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(
    hidden=st.integers(1, 150),
    values=st.sampled_from(["01", "pm1"]),
    eps=st.sampled_from([None, 1e-3]),
    planes=st.sampled_from([None, [1, 1], [1, 2, 4]]),
    levels=st.sampled_from([None, *LEVELS]),
    reverse=st.booleans(),
    precision=st.sampled_from(["int8", "float32"]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_the_engine_equals_the_reference(
    kind, isa, hidden, values, eps, planes, levels, reverse, precision, threads, seed
):
    attributes = {"reverse": reverse}
    if kind.startswith("bit_"):
        wanted = {"values": values, "eps": eps, "planes": planes, "input": levels}
        attributes |= {name: value for name, value in wanted.items() if value is not None}
    step, tensors = recurrence(kind, hidden, seed, **attributes)
    # A deviation of few numbers that are nearly equal magnifies what rounding left of their difference.
    if eps and hidden < 15:
        return
    x = gates_of(kind, hidden, seed=seed)
    made = made_by_engine(step, tensors, x, precision, isa, threads)
    np.testing.assert_allclose(made, expected_behind(made, step, tensors, x, precision), rtol=0, atol=2e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["bit_lstm", "bit_gru"])
def test_signs_behind_saturated_gates_are_the_references(kind, isa):
    """A gate of 0 makes a state of 0 with a sign that the next product does not see; a gate that is a little more makes one that it sees."""
    step, tensors = recurrence(kind, 40, seed=1, planes=[1, 2, 4, 8, 16, 32, 64, 128], input={"quantizer": "sign"})
    x = gates_of(kind, 40, time=30, seed=1) * np.float32(60)
    made = made_by_engine(step, tensors, x, "int8", isa)
    expected = reference.run(Program("gates", x.shape[1:], (step,), "y"), tensors, x, "int8")
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_float_recurrences_are_pytorchs(kind, isa):
    torch.manual_seed(0)
    layer = (torch.nn.LSTM if kind == "lstm" else torch.nn.GRU)(12, 70, batch_first=True)
    weights = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    x = np.random.default_rng(0).standard_normal((2, 40, 12)).astype(np.float32)
    shift = weights["bias_hh_l0"]
    tensors = {
        "w_x": weights["weight_ih_l0"],
        "b_x": weights["bias_ih_l0"] + (shift if kind == "lstm" else 0),
        "w_h": weights["weight_hh_l0"],
        "b_h": shift,
    }
    roles = {"weight": "w_h"} | ({"shift": "b_h"} if kind == "gru" else {})
    sizes = {"in_features": 12, "out_features": len(shift)}
    steps = (
        Step("linear", ("x",), "gates", sizes, {"weight": "w_x", "bias": "b_x"}),
        Step(kind, ("gates",), "y", {"hidden": 70}, roles),
    )
    made = Engine(Program("x", x.shape[1:], steps, "y").to_json(), tensors, "float32", 1, isa).run(x)
    np.testing.assert_allclose(made, layer(torch.tensor(x))[0].detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_threads_change_nothing(kind, precision):
    # So large that the threads share each product.
    step, tensors = recurrence(kind, 512)
    x = gates_of(kind, 512, time=4)
    one = made_by_engine(step, tensors, x, precision)
    assert np.array_equal(made_by_engine(step, tensors, x, precision, threads=3), one)


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_a_sequence_of_an_images_lines_becomes_logits(precision):
    random = np.random.default_rng(1)
    hidden, gates = 40, 120
    step, tensors = recurrence("bit_gru", hidden, eps=1e-5)
    back, of_back = recurrence("gru", hidden, 7, "back_", reverse=True)
    tensors |= of_back | {
        "w_x": pack_rows(random.integers(0, 2, (gates, 30))),
        "head": random.standard_normal((5, hidden)).astype(np.float32),
    }
    steps = (
        Step("rows", ("x",), "lines"),
        Step("bit_linear", ("lines",), "sums", {"in_features": 30, "out_features": gates, "values": "pm1"}, {"weight": "w_x"}),
        Step("normalize", ("sums",), "gates", {"over": "channel", "eps": 1e-5}),
        step,
        Step("gru", ("gates",), "z", back.attributes, back.tensors),
        Step("add", ("y", "z"), "h"),
        Step("last", ("h",), "state"),
        Step("mean_pool", ("h",), "mean"),
        Step("add", ("state", "mean"), "features"),
        Step("linear", ("features",), "logits", {"in_features": hidden, "out_features": 5}, {"weight": "head"}),
    )  # fmt: skip
    program = Program("x", (8, 10, 3), steps, "logits")
    assert program.shapes(tensors)["logits"] == (5,)
    x = random.random((3, 8, 10, 3)).astype(np.float32)
    engine = Engine(program.to_json(), tensors, precision, 2)
    expected = reference.run(program, tensors, x, precision)
    np.testing.assert_allclose(engine.run(x), expected, rtol=0, atol=0.1 if precision == "int8" else 1e-4)
    assert np.array_equal(engine.run(x[1:2]), engine.run(x)[1:2])  # nothing is left of the example before
    weight = next(line["weight_bytes"] for line in engine.plan() if line["step"] == "bit_gru")
    assert 0 < weight < 4 * gates * hidden  # bits, not floats


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_spoils_its_own_time_and_later_ones(kind, precision, isa):
    step, tensors = recurrence(kind, 20)
    x = gates_of(kind, 20)
    x[0, 4, 3] = np.nan
    made = made_by_engine(step, tensors, x, precision, isa)
    assert np.isfinite(made[0, :4]).all()
    assert np.isnan(made[0, 5:]).all()
    assert np.isfinite(made[1]).all()


CONTEXT, VOCABULARY, HIDDEN = 600, 50, 24


def language(kinds=("bit_lstm", "gru"), attention=(), **attributes):
    """A program over tokens: embedded gates, recurrences one behind the other with a dense layer before each, attentions where asked for, logits."""
    random = np.random.default_rng(5)
    tensors = {
        "e": random.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32),
        "head": pack_rows(random.integers(0, 2, (VOCABULARY, HIDDEN))),
    }
    steps = [Step("embedding", ("t",), "h0", {"rows": VOCABULARY, "features": HIDDEN, "of": "token"}, {"weight": "e"})]
    for index, kind in enumerate(kinds):
        last, count = f"h{index}", GATES[kind] * HIDDEN
        tensors[f"in{index}"] = pack_rows(random.integers(0, 2, (count, HIDDEN)))
        sizes = {"in_features": HIDDEN, "out_features": count, "values": "pm1"}
        steps.append(Step("bit_linear", (last,), f"s{index}", sizes, {"weight": f"in{index}"}))
        steps.append(Step("normalize", (f"s{index}",), f"g{index}", {"over": "channel", "eps": 1e-5}))
        binary = attributes if kind.startswith("bit_") else {}
        step, own = recurrence(kind, HIDDEN, index, f"r{index}", **binary)
        tensors |= own
        # A second product of the layer's input, behind a recurrence that has used the memory for quantised rows.
        tensors[f"skip{index}"] = pack_rows(random.integers(0, 2, (HIDDEN, HIDDEN)))
        sizes = {"in_features": HIDDEN, "out_features": HIDDEN, "values": "pm1"}
        steps.append(Step(kind, (f"g{index}",), f"y{index}", step.attributes, step.tensors))
        steps.append(Step("bit_linear", (last,), f"k{index}", sizes, {"weight": f"skip{index}"}))
        steps.append(Step("normalize", (f"k{index}",), f"n{index}", {"over": "channel", "eps": 1e-5}))
        steps.append(Step("add", (f"y{index}", f"n{index}"), f"h{index + 1}"))
        if index in attention:
            steps[-1] = Step("add", (f"y{index}", f"n{index}"), f"q{index}")
            steps.append(Step("attention", (f"q{index}",) * 3, f"h{index + 1}", {"heads": 2}))
    sizes = {"in_features": HIDDEN, "out_features": VOCABULARY, "values": "pm1"}
    steps.append(Step("bit_linear", (f"h{len(kinds)}",), "logits", sizes, {"weight": "head"}))
    program = Program("t", (CONTEXT,), tuple(steps), "logits", tokens=True)
    program.shapes(tensors)
    return program, tensors


def tokens(count, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, count).astype(np.int32)


def whole(decoder, ids):
    sequence = decoder.open()
    made = decoder.extend([sequence], [len(ids)], ids, all=True)
    decoder.close(sequence)
    return made


def one_by_one(decoder, ids):
    sequence = decoder.open()
    made = np.concatenate([decoder.extend([sequence], [1], ids[i : i + 1]) for i in range(len(ids))])
    decoder.close(sequence)
    return made


MIXTURES = [
    (("lstm",), ()), (("bit_gru",), ()), (("bit_lstm", "gru"), ()), (("gru", "bit_lstm"), (0,)), (("bit_gru", "lstm"), (0, 1)),
]  # fmt: skip


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize(("kinds", "attention"), MIXTURES)
def test_texts_whole_and_token_by_token(kinds, attention, precision, isa):
    program, tensors = language(kinds, attention)
    decoder = Decoder(program.to_json(), tensors, precision, 1, isa)
    ids = tokens(40)
    made = whole(decoder, ids)
    expected = reference.run(program, tensors, ids[None], precision)[0]
    if precision == "float32":
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-4 * np.abs(expected).max())
    else:
        # Levels that lie between two may go to either, and then all later ones differ a little.
        assert np.median(np.abs(made - expected)) < 0.02 * np.abs(expected).max()
    stepwise = one_by_one(decoder, ids)
    if precision == "int8":
        np.testing.assert_array_equal(stepwise, made)
    else:
        np.testing.assert_allclose(stepwise, made, rtol=0, atol=2e-4 * np.abs(made).max())


@pytest.mark.parametrize(("kinds", "attention"), MIXTURES)
def test_several_texts_in_one_pass_do_not_touch_each_other(kinds, attention):
    program, tensors = language(kinds, attention)
    decoder = Decoder(program.to_json(), tensors, "int8", 2)
    texts = [tokens(n, seed) for seed, n in enumerate((5, 40, 1, 23, 2))]
    alone = [whole(decoder, ids) for ids in texts]
    sequences = [decoder.open() for _ in texts]
    made = decoder.extend(sequences, [len(ids) for ids in texts], np.concatenate(texts), all=True)
    np.testing.assert_array_equal(made, np.concatenate(alone))
    more = tokens(2, 9)
    made = decoder.extend([sequences[3], sequences[0]], [1, 1], more)
    for row, (text, token) in enumerate(((3, more[0]), (0, more[1]))):
        np.testing.assert_array_equal(made[row], whole(decoder, np.append(texts[text], token))[-1])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("levels", LEVELS)
def test_texts_with_a_state_of_few_levels(levels, isa):
    # Whole and token by token, several at once: sums of whole numbers, so that not a bit may differ.
    program, tensors = language(("bit_lstm", "bit_gru"), input=levels, planes=[1, 2], eps=1e-3)
    decoder = Decoder(program.to_json(), tensors, "int8", 1, isa)
    texts = [tokens(n, seed) for seed, n in enumerate((5, 30, 12, 7, 9, 1, 4))]
    alone = [one_by_one(decoder, ids) for ids in texts]
    made = decoder.extend([decoder.open() for _ in texts], [len(ids) for ids in texts], np.concatenate(texts), all=True)
    np.testing.assert_array_equal(made, np.concatenate(alone))


def test_long_prompts_pass_in_pieces():
    program, tensors = language()
    decoder = Decoder(program.to_json(), tensors, "int8", 1)
    ids = tokens(CONTEXT)
    everything = one_by_one(decoder, ids)
    np.testing.assert_array_equal(whole(decoder, ids), everything)
    np.testing.assert_array_equal(decoder.extend([decoder.open()], [CONTEXT], ids)[0], everything[-1])


def test_cut_forgets():
    program, tensors = language()
    decoder = Decoder(program.to_json(), tensors, "int8", 1)
    first, other, then = tokens(30, 1), tokens(20, 2), tokens(3, 3)
    sequence = decoder.open()
    decoder.extend([sequence], [30], first)
    decoder.extend([sequence], [20], other)
    decoder.cut(sequence, 30)
    made = decoder.extend([sequence], [3], then)
    np.testing.assert_array_equal(made[0], whole(decoder, np.concatenate([first, then]))[-1])
    decoder.cut(sequence, 0)
    np.testing.assert_array_equal(decoder.extend([sequence], [20], other)[0], whole(decoder, other)[-1])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache", [None, "int8"])
@pytest.mark.parametrize(("kinds", "attention"), MIXTURES)
def test_a_saved_text_goes_on_in_another_engine(kinds, attention, cache, isa):
    program, tensors = language(kinds, attention)
    ids, length = tokens(24), 19
    first = Decoder(program.to_json(), tensors, "int8", 1, isa, cache=cache)
    sequence = first.open()
    first.extend([sequence], [len(ids)], ids)
    first.cut(sequence, length)
    saved = np.frombuffer(first.save(sequence), np.uint8)
    second = Decoder(program.to_json(), tensors, "int8", 1, isa, cache=cache)
    again = second.restore(length, saved)
    assert second.length(again) == length
    assert second.save(again) == saved.tobytes()
    made = second.extend([again], [len(ids) - length], ids[length:])
    np.testing.assert_array_equal(made[0], whole(first, ids)[-1])
    for count, part in ((length, saved[:-1]), (length, saved[:0]), (len(ids), saved), (-1, saved), (1 << 40, saved)):
        with pytest.raises(ValueError, match="a state"):
            second.restore(count, part)


def test_a_fork_goes_its_own_way():
    program, tensors = language()
    decoder = Decoder(program.to_json(), tensors, "int8", 1)
    first, then = tokens(30, 1), tokens(5, 3)
    sequence = decoder.open()
    decoder.extend([sequence], [30], first)
    forked = decoder.fork(sequence, 20)
    decoder.extend([sequence], [5], then)
    made = decoder.extend([forked], [5], then)
    np.testing.assert_array_equal(made[0], whole(decoder, np.concatenate([first[:20], then]))[-1])


def test_states_take_memory_as_tokens_come():
    program, tensors = language(("lstm", "gru"))
    decoder = Decoder(program.to_json(), tensors, "int8", 1)
    decoder.extend([decoder.open()], [100], tokens(100))  # what all sequences share is taken
    before = decoder.memory_bytes
    sequence = decoder.open()
    decoder.extend([sequence], [100], tokens(100))
    assert (
        decoder.memory_bytes - before == 101 * 3 * HIDDEN * 4
    )  # tokens and what is before them; hidden and cells, hidden; bytes
    decoder.close(sequence)
    assert decoder.memory_bytes == before


def changed(kind, attributes=None, tensors=None, shape=None, roles=None):
    """Both sides' messages for a recurrence that was changed."""
    step, good = recurrence(kind, 6)
    tree = {**step.attributes, **(attributes or {})}
    names = {role: name for role, name in {**step.tensors, **(roles or {})}.items() if name}
    shape = shape or (3, GATES[kind] * 6)
    program = Program(
        "gates", shape, (Step(kind, ("gates",), "y", {k: v for k, v in tree.items() if v is not None}, names),), "y"
    )
    all_tensors = good | (tensors or {})
    with pytest.raises(FormatError) as python:
        program.shapes(all_tensors)
    with pytest.raises(ValueError) as engine:
        Engine(program.to_json(), all_tensors, "int8", 1)
    return str(python.value), str(engine.value)


@pytest.mark.parametrize(
    ("kind", "changes", "python", "engine"),
    [
        ("lstm", {"attributes": {"hidden": 7}}, "hidden=7 but its input has shape (3, 24): needs (time, 28)", "needs (time, 28)"),
        ("gru", {"shape": (18,)}, "needs (time, 18)", "needs (time, 18)"),
        ("bit_gru", {"shape": (2, 3, 18)}, "needs (time, 18)", "needs (time, 18)"),
        ("lstm", {"attributes": {"hidden": 0}}, "integer from 1", "integer from 1"),
        ("lstm", {"attributes": {"hidden": None}}, "lacks the attribute 'hidden'", "lacks the attribute 'hidden'"),
        ("lstm", {"attributes": {"reverse": 1}}, "reverse=1: use true or false", "reverse: use true or false"),
        ("lstm", {"tensors": {"w": np.zeros((24, 7), np.float32)}}, "needs (24, 6)", "needs (24, 6)"),
        ("gru", {"roles": {"shift": None}}, "lacks its tensor 'shift'", "lacks its tensor 'shift'"),
        ("bit_lstm", {"roles": {"scale": None}}, "lacks its tensor 'scale'", "lacks its tensor 'scale'"),
        ("bit_lstm", {"attributes": {"values": "2"}}, "use '01' or 'pm1'", "use '01' or 'pm1'"),
        ("bit_lstm", {"attributes": {"eps": 0}}, "above 0", "above 0"),
        ("bit_lstm", {"attributes": {"planes": [0]}}, "planes=[0]", "planes: needs 1 to 8 integers"),
        ("bit_lstm", {"attributes": {"planes": [1, 1]}}, "has shape (24, 8): needs (48, 8)", "has shape (24, 8): needs (48, 8)"),
        ("bit_gru", {"attributes": {"input": {"quantizer": "ternary"}}}, "needs a quantizer", "needs a quantizer"),
        ("bit_gru", {"tensors": {"w": np.full((18, 8), 255, np.uint8)}}, "bits set beyond its 6", "bits set beyond its 6"),
        ("bit_gru", {"tensors": {"w": np.zeros((18, 6), np.float32)}}, "needs uint8", "needs uint8"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(kind, changes, python, engine):
    messages = changed(kind, **changes)
    assert python in messages[0]
    assert engine in messages[1]
    assert "\n" not in messages[0] + messages[1]


def test_what_a_recurrence_does_not_take_is_named():
    for kind, attributes, roles, message in (
        ("lstm", {"eps": 1e-5}, {}, "eps"),
        ("lstm", {}, {"shift": "shift"}, "tensor shift"),
        ("gru", {"planes": [1]}, {}, "planes"),
        ("bit_gru", {}, {"bias": "shift"}, "tensor bias"),
    ):
        step, tensors = recurrence(kind, 6)
        bad = Step(kind, ("gates",), "y", {**step.attributes, **attributes}, {**step.tensors, **roles})
        with pytest.raises(FormatError, match=f"does not take: '{message}'"):
            Program("gates", (3, 6 * GATES[kind]), (bad,), "y").shapes(tensors)


def test_time_does_not_run_backwards_over_tokens():
    program, tensors = language(("gru",))
    tree = json.loads(program.to_json())
    next(step for step in tree["steps"] if step["op"] == "gru")["attributes"]["reverse"] = True
    text = json.dumps(tree)
    message = "reverse=true would read tokens that are still to come"
    with pytest.raises(ValueError, match=message):
        Decoder(text, tensors, "int8", 1)
    with pytest.raises(FormatError, match=message):
        Program.from_json(text).shapes(tensors)
