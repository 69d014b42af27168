"""Programs over tokens in the engine: compare with the NumPy reference and PyTorch, whole and token by token, and test refusals."""

import dataclasses
import json
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit._engine import Decoder, Engine, isas
from onebit.errors import FormatError
from onebit.models import language_decoder
from onebit.packing.trace import trace
from onebit.program import Program, Step, pack_rows
from onebit.runtime import reference
from onebit.schemes import BinaryNormalized

ISAS = [isa["name"] for isa in isas() if isa["supported"]]
CONTEXT, VOCABULARY = 70, 301
SIZES = {"vocabulary": VOCABULARY, "context": CONTEXT, "blocks": 2, "features": 36, "heads": 3, "head": (40, 50)}


def build(binary=True, values="01", seed=0, **options):
    """A network with latents at random, biases too, and its program."""
    torch.manual_seed(seed)
    model = language_decoder(
        {**SIZES, **options.pop("sizes", {})}, binary=binary, scheme=BinaryNormalized(values), **options
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=1.0 if binary else 0.3)
    traced = trace(model, (model.context,), tokens=True)
    return model, traced.program, traced.tensors


NETWORKS = {
    "01": {},
    "pm1": {"values": "pm1"},
    "pre-norm": {"pre_norm": True},
    "float": {"binary": False},
    "float pre-norm": {"binary": False, "pre_norm": True},
}


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    return build(**request.param, residual_scale=0.35, logit_scale=3.0, embedding_widening=3)


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


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
def test_float32_equals_pytorch_whole_and_token_by_token(network, isa, threads):
    model, program, tensors = network
    ids = tokens(CONTEXT)
    expected = model(torch.from_numpy(ids[None]).long())[0].detach().numpy()
    decoder = Decoder(program.to_json(), tensors, "float32", threads, isa)
    assert relative(whole(decoder, ids), expected) < 1e-4
    assert relative(one_by_one(decoder, ids), expected) < 1e-4
    assert relative(reference.run(program, tensors, ids[None], "float32")[0], expected) < 1e-4


@pytest.mark.parametrize("cache", ["bf16", "int8"])
@pytest.mark.parametrize("isa", ISAS)
def test_int8_is_the_same_whole_and_token_by_token(network, isa, cache):
    # Few rows are multiplied as bits, many as bytes: both sums are exact, so that not a bit may differ.
    _, program, tensors = network
    decoder = Decoder(program.to_json(), tensors, "int8", 1, isa, cache=cache)
    ids = tokens(CONTEXT)
    assert np.array_equal(whole(decoder, ids), one_by_one(decoder, ids))


@settings(max_examples=30, deadline=None)
@given(
    inputs=st.integers(1, 300),
    outputs=st.integers(1, 300),
    rows=st.sampled_from([1, 2, 4, 5, 30]),
    values=st.sampled_from(["01", "pm1"]),
    relu=st.booleans(),
    isa=st.sampled_from(ISAS),
    seed=st.integers(0, 1000),
)
def test_a_dense_layer_of_any_size_equals_the_reference(inputs, outputs, rows, values, relu, isa, seed):
    # One layer on embedded tokens: nothing behind it that could enlarge a rounding, so that the int8 sums must agree exactly up to the last
    # float operations. With ReLU in front the inputs are quantised to 0 .. 255.
    random = np.random.default_rng(seed)
    tensors = {
        "e": random.normal(size=(VOCABULARY, inputs)).astype(np.float32),
        "w": np.packbits(random.integers(0, 2, (outputs, inputs)), 1, bitorder="little"),
        "b": np.packbits(random.integers(0, 2, (1, outputs)), 1, bitorder="little"),
    }
    for name in ("w", "b"):
        width = -(-tensors[name].shape[1] // 8) * 8
        tensors[name] = np.pad(tensors[name], ((0, 0), (0, width - tensors[name].shape[1])))
    steps = [Step("embedding", ("t",), "x0", {"rows": VOCABULARY, "features": inputs, "of": "token"}, {"weight": "e"})]
    if relu:
        steps.append(Step("relu", ("x0",), "x1"))
    attributes = {"in_features": inputs, "out_features": outputs, "values": values}
    steps.append(Step("bit_linear", (steps[-1].output,), "y", attributes, {"weight": "w", "bias": "b"}))
    program = Program("t", (CONTEXT,), tuple(steps), "y", tokens=True)
    program.shapes(tensors)
    ids = tokens(rows, seed)
    for precision in ("int8", "float32"):
        made = whole(Decoder(program.to_json(), tensors, precision, 1, isa), ids)
        expected = reference.run(program, tensors, ids[None], precision)[0]
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-5 * np.abs(expected).max() + 1e-6)


EMBED = Step("embedding", ("t",), "x", {"rows": VOCABULARY, "features": 24, "of": "token"}, {"weight": "e"})


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "steps",
    [
        [Step("sigmoid", ("x",), "y")],
        [Step("tanh", ("x",), "y")],
        [Step("silu", ("x",), "y")],
        [Step("clip", ("x",), "y", {"low": -0.5, "high": 1})],
        [Step("prelu", ("x",), "y", {}, {"slope": "s"})],
        [Step("group_normalize", ("x",), "y", {"groups": 4, "eps": 1e-3})],
        [Step("mean_magnitude", ("x",), "y")],
        [Step("mean_magnitude", ("x",), "m"), Step("multiply", ("x", "m"), "y")],
        [Step("relu", ("x",), "m"), Step("multiply", ("x", "m"), "y")],
    ],
    ids=lambda steps: "-".join(step.op for step in steps),
)
def test_ops_that_treat_each_token_by_itself(steps, threads, isa):
    random = np.random.default_rng(3)
    tensors = {
        "e": random.standard_normal((VOCABULARY, 24)).astype(np.float32),
        "s": random.standard_normal(24).astype(np.float32),
    }
    program = Program("t", (CONTEXT,), (EMBED, *steps), "y", tokens=True)
    program.shapes(tensors)
    decoder = Decoder(program.to_json(), tensors, "int8", threads, isa)
    ids = tokens(CONTEXT)
    made = whole(decoder, ids)
    assert relative(made, reference.run(program, tensors, ids[None])[0]) < 1e-5
    np.testing.assert_array_equal(one_by_one(decoder, ids), made)


@pytest.mark.parametrize("op", ["avg_pool2d", "last", "mean_pool", "rows"])
def test_what_would_mix_tokens_is_refused(op):
    program = Program("t", (CONTEXT,), (EMBED, Step(op, ("x",), "y")), "y", tokens=True)
    with pytest.raises(ValueError, match="has no meaning for tokens"):
        Decoder(program.to_json(), {"e": np.zeros((VOCABULARY, 24), np.float32)}, "int8", 1)


def test_int8_attention_rounds_keys_and_values_as_documented():
    # Float projections: only the cache's rounding is left of int8.
    _, program, tensors = build(binary=False)
    ids = tokens(CONTEXT)
    made = whole(Decoder(program.to_json(), tensors, "int8", 1), ids)
    assert relative(made, reference.run(program, tensors, ids[None], "int8")[0]) < 1e-4
    assert relative(made, reference.run(program, tensors, ids[None], "float32")[0]) > 1e-4


def test_a_cache_of_int8_rounds_each_head_of_a_token_with_its_own_scale():
    # Float projections, and one block, whose queries, keys and values no rounding has touched yet: what the engine does must be what NumPy does.
    _, program, tensors = build(binary=False, sizes={"blocks": 1})

    def up_to(steps, output):
        return dataclasses.replace(program, steps=tuple(steps), output=output)

    index, step = next((i, step) for i, step in enumerate(program.steps) if step.op == "attention")
    ids, heads = tokens(CONTEXT), step.attributes["heads"]

    def values_of(name):
        made = reference.run(up_to(program.steps[:index], name), tensors, ids[None], "float32")[0]
        return made.reshape(CONTEXT, heads, -1).astype(np.float64)

    def rounded(x):
        scale = np.abs(x).max(-1, keepdims=True) / 127
        return np.round(x / scale) * scale

    q, k, v = (values_of(name) for name in step.inputs)
    k, v = rounded(k), rounded(v)
    scores = np.einsum("qhf,khf->hqk", q, k) / np.sqrt(q.shape[-1])
    scores[:, np.triu(np.ones((CONTEXT, CONTEXT), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    expected = np.einsum("hqk,khf->qhf", weights, v).reshape(CONTEXT, -1)
    attention = up_to(program.steps[: index + 1], step.output)
    for isa in ISAS:
        made = whole(Decoder(attention.to_json(), tensors, "int8", 1, isa, cache="int8"), ids)
        # A number that lies halfway between two levels may be rounded to either.
        assert relative(made, expected) < 2e-3
        assert np.median(np.abs(made - expected)) < 1e-4 * np.abs(expected).max()


def test_a_cache_of_int8_takes_about_half_the_memory():
    sizes = {"context": 256, "features": 192}
    _, program, tensors = build(sizes=sizes)
    taken = {}
    for precision, cache in (("float32", None), ("int8", "bf16"), ("int8", "int8")):
        decoder = Decoder(program.to_json(), tensors, precision, 1, cache=cache)
        assert decoder.cache == (cache or "float32")
        sequence = decoder.open()
        decoder.extend([sequence], [256], tokens(256))
        decoder.close(sequence)
        before = decoder.memory_bytes
        decoder.extend([decoder.open()], [256], tokens(256))
        taken[decoder.cache] = decoder.memory_bytes - before
    assert taken["bf16"] == 2 * 2 * 256 * 3 * 64 * 2  # blocks, keys and values, tokens, heads, features, bytes
    assert taken["float32"] == 2 * taken["bf16"]
    assert taken["int8"] == 2 * 2 * 256 * 3 * (64 + 4)


def test_caches_that_do_not_fit_are_named():
    _, program, tensors = build()
    with pytest.raises(ValueError, match="cache='int4': use 'bf16', 'int8'"):
        Decoder(program.to_json(), tensors, "int8", 1, cache="int4")
    for cache in ("bf16", "int8"):
        with pytest.raises(ValueError, match="precision='float32' keeps its cache in float32"):
            Decoder(program.to_json(), tensors, "float32", 1, cache=cache)
    assert Decoder(program.to_json(), tensors, "int8", 1).cache == "bf16"
    assert Decoder(program.to_json(), tensors, "float32", 1, cache="float32").cache == "float32"


@pytest.mark.parametrize(("precision", "cache"), [("int8", "bf16"), ("int8", "int8"), ("float32", None)])
def test_sequences_in_one_pass_do_not_touch_each_other(network, precision, cache):
    _, program, tensors = network
    decoder = Decoder(program.to_json(), tensors, precision, 2, cache=cache)
    texts = [tokens(n, seed) for seed, n in enumerate((5, 40, 1, 23))]
    alone = [whole(decoder, ids) for ids in texts]
    sequences = [decoder.open() for _ in texts]
    assert len(set(sequences)) == 4
    made = decoder.extend(sequences, [len(ids) for ids in texts], np.concatenate(texts), all=True)
    np.testing.assert_array_equal(made, np.concatenate(alone))
    # Then a token each, of some of them, in another order.
    more = tokens(2, 9)
    made = decoder.extend([sequences[3], sequences[0]], [1, 1], more)
    for row, (text, token) in enumerate(((3, more[0]), (0, more[1]))):
        np.testing.assert_array_equal(made[row], whole(decoder, np.append(texts[text], token))[-1])
    assert [decoder.length(s) for s in sequences] == [6, 40, 1, 24]


def test_long_prompts_pass_in_pieces():
    sizes = {"context": 600}
    _, program, tensors = build(sizes=sizes)
    decoder = Decoder(program.to_json(), tensors, "float32", 1)
    ids = tokens(600)
    sequence = decoder.open()
    last = decoder.extend([sequence], [600], ids)
    assert last.shape == (1, VOCABULARY)
    expected = reference.run(program, tensors, ids[None], "float32")[0]
    assert relative(last[0], expected[-1]) < 1e-4
    assert relative(whole(decoder, ids), expected) < 1e-4


@pytest.mark.parametrize("cache", ["bf16", "int8"])
def test_cut_forgets(cache):
    _, program, tensors = build()
    decoder = Decoder(program.to_json(), tensors, "int8", 1, cache=cache)
    first, other, then = tokens(30, 1), tokens(20, 2), tokens(3, 3)
    sequence = decoder.open()
    decoder.extend([sequence], [30], first)
    decoder.extend([sequence], [20], other)
    decoder.cut(sequence, 30)
    made = decoder.extend([sequence], [3], then)
    np.testing.assert_array_equal(made[0], whole(decoder, np.concatenate([first, then]))[-1])
    with pytest.raises(ValueError, match="a sequence of 33 tokens cannot be cut there"):
        decoder.cut(sequence, 34)


@pytest.mark.parametrize("cache", ["bf16", "int8"])
def test_a_fork_goes_its_own_way(cache):
    _, program, tensors = build()
    decoder = Decoder(program.to_json(), tensors, "int8", 1, cache=cache)
    first, other, then = tokens(30, 1), tokens(20, 2), tokens(7, 3)
    sequence = decoder.open()
    decoder.extend([sequence], [30], first)
    forked = decoder.fork(sequence, 25)
    assert decoder.length(forked) == 25
    assert decoder.length(sequence) == 30
    made = decoder.extend([forked, sequence], [7, 20], np.concatenate([then, other]))
    np.testing.assert_array_equal(made[0], whole(decoder, np.concatenate([first[:25], then]))[-1])
    np.testing.assert_array_equal(made[1], whole(decoder, np.concatenate([first, other]))[-1])
    # It stays when the other one is closed.
    decoder.close(sequence)
    decoder.cut(forked, 25)
    np.testing.assert_array_equal(decoder.extend([forked], [7], then)[0], made[0])
    for length in (-1, 33):
        with pytest.raises(ValueError, match="a sequence of 32 tokens does not have"):
            decoder.fork(forked, length)
    with pytest.raises(ValueError, match="is not open"):
        decoder.fork(99, 0)


def test_a_closed_sequence_leaves_nothing():
    _, program, tensors = build()
    decoder = Decoder(program.to_json(), tensors, "int8", 1)
    expected = whole(decoder, tokens(9))
    sequence = decoder.open()
    decoder.extend([sequence], [CONTEXT], tokens(CONTEXT, 5))
    decoder.close(sequence)
    np.testing.assert_array_equal(whole(decoder, tokens(9)), expected)


def test_refusals_leave_the_sequence_as_it_was():
    _, program, tensors = build()
    decoder = Decoder(program.to_json(), tensors, "int8", 1)
    a, b = decoder.open(), decoder.open()
    decoder.extend([a], [5], tokens(5))
    before = decoder.length(a)
    for sequences, counts, ids, message in (
        ([a], [1], [VOCABULARY], f"token {VOCABULARY} is out of range: use 0 to {VOCABULARY - 1}"),
        ([a], [2], [0, -1], "token -1 is out of range"),
        ([a], [CONTEXT - 4], [0] * (CONTEXT - 4), f"{CONTEXT + 1} tokens: the context is {CONTEXT}"),
        ([a, a], [1, 1], [0, 0], "a sequence is named twice"),
        ([a, 7], [1, 1], [0, 0], "sequence 7 is not open"),
        ([a], [0], [], "each sequence takes 1 to"),
        ([a, b], [1], [0], "a count for each sequence"),
        ([a], [2], [0], "do not add up"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder.extend(sequences, counts, np.asarray(ids, np.int32))
    assert decoder.length(a) == before
    decoder.close(a)
    with pytest.raises(ValueError, match="is not open"):
        decoder.length(a)


def test_threads_may_share_a_decoder():
    _, program, tensors = build()
    decoder = Decoder(program.to_json(), tensors, "int8", 2)
    texts = [tokens(20, seed) for seed in range(6)]
    expected = [one_by_one(decoder, ids) for ids in texts]
    made = [None] * 6

    def work(index):
        made[index] = one_by_one(decoder, texts[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(made, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("precision", "cache"), [("int8", "bf16"), ("int8", "int8"), ("float32", None)])
def test_nan_reaches_only_its_own_token_and_later_ones(precision, cache, isa):
    _, program, tensors = build(binary=False)
    broken = dict(tensors)
    name = next(s.tensors["weight"] for s in program.steps if s.op == "embedding" and s.attributes["of"] == "token")
    broken[name] = tensors[name].copy()
    broken[name][3, 0] = np.nan
    ids = np.array([1, 2, 3, 4], np.int32)
    decoder = Decoder(program.to_json(), broken, precision, 1, isa, cache=cache)
    sequence = decoder.open()
    made = decoder.extend([sequence], [4], ids, all=True)
    assert np.isfinite(made[:2]).all()
    assert np.isnan(made[2:]).all()
    # Nor is it seen once it is cut off.
    decoder.cut(sequence, 2)
    assert np.isfinite(decoder.extend([sequence], [1], ids[:1])).all()


def change(program, **changes):
    tree = json.loads(program.to_json())
    for path, value in changes.items():
        node = tree
        *keys, last = path.split("__")
        for key in keys:
            node = node[int(key) if key.isdigit() else key]
        node[last] = value
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input__kind": "letters"}, "kind"),
        ({"input__shape": [70, 2]}, "kind"),
        ({"input__shape": [71]}, "has 70 rows for 71 positions"),
        ({"steps__0__attributes__rows": 300}, "has shape"),
        ({"steps__0__attributes__of": "time"}, "of(='time')?: use 'token' or 'position'"),
        (
            {"steps__0__op": "relu", "steps__0__attributes": {}, "steps__0__tensors": {}},
            "its input is tokens: embed them",
        ),
        ({"steps__1__attributes__over": "example"}, "would mix tokens"),
        ({"steps__1__op": "flatten", "steps__1__attributes": {"order": "hwc"}}, "has no meaning for tokens"),
        ({"steps__1__op": "bit_embedding"}, "not the program's tokens|lacks"),
        ({"output": "input"}, "made by no step"),
    ],
)
def test_damaged_programs_are_refused_by_both_sides(changes, message):
    _, program, tensors = build()
    text = change(program, **changes)
    with pytest.raises(ValueError, match=message):
        Decoder(text, tensors, "int8", 1)
    with pytest.raises(FormatError, match=message):
        Program.from_json(text).shapes(tensors)


def test_attention_is_checked():
    _, program, tensors = build()
    index = next(i for i, step in enumerate(program.steps) if step.op == "attention")
    for changes, message in (
        ({f"steps__{index}__attributes__heads": 5}, "divide"),
        ({f"steps__{index}__inputs": ["v2"]}, "inputs"),
    ):
        text = change(program, **changes)
        with pytest.raises(ValueError, match=message):
            Decoder(text, tensors, "int8", 1)
        with pytest.raises(FormatError, match=message):
            Program.from_json(text).shapes(tensors)


def test_each_kind_of_program_has_its_own_runner():
    _, program, tensors = build()
    with pytest.raises(ValueError, match="a decoder runs it"):
        Engine(program.to_json(), tensors, "int8", 1)
    images = Program("x", (4,), (Step("relu", ("x",), "y"),), "y")
    with pytest.raises(ValueError, match="is not tokens"):
        Decoder(images.to_json(), {}, "int8", 1)
    alone = Program("x", (4, 6), (Step("attention", ("x", "x", "x"), "y", {"heads": 2}),), "y")
    with pytest.raises(ValueError, match="is not tokens"):
        Engine(alone.to_json(), {}, "int8", 1)


KINDS = [
    None,
    {"quantizer": "sign"},
    {"quantizer": "unit", "bits": 2},
    {"quantizer": "absmax", "bits": 8},
    {"quantizer": "absmax", "bits": 16},
]


@settings(max_examples=60, deadline=None)
@given(
    features=st.sampled_from([5, 64, 100]),
    outputs=st.sampled_from([3, 64, 90]),
    values=st.sampled_from(["01", "pm1"]),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    planes=st.sampled_from([None, [1, 1], [1, 2]]),
    precision=st.sampled_from(["int8", "float32"]),
    threads=st.sampled_from([1, 2]),
    isa=st.sampled_from(ISAS),
)
def test_planes_and_inputs_of_their_own(features, outputs, values, kinds, planes, precision, threads, isa):
    # Two layers of one input: what the first makes of it serves the second only where both quantise alike.
    rng = np.random.default_rng(features * outputs)
    count = len(planes or [1])
    tensors = {
        "e": rng.standard_normal((30, features)).astype(np.float32),
        **{name: pack_rows(rng.integers(0, 2, (count * outputs, features))) for name in ("w0", "w1")},
    }
    steps = [Step("embedding", ("t",), "x", {"rows": 30, "features": features, "of": "token"}, {"weight": "e"})]
    for i, kind in enumerate(kinds):
        attributes = {"in_features": features, "out_features": outputs, "values": values}
        attributes |= ({} if planes is None else {"planes": planes}) | ({} if kind is None else {"input": kind})
        steps.append(Step("bit_linear", ("x",), f"y{i}", attributes, {"weight": f"w{i}"}))
    steps.append(Step("add", ("y0", "y1"), "y"))
    program = Program("t", (50,), tuple(steps), "y", tokens=True)
    program.shapes(tensors)
    ids = rng.integers(0, 30, 50).astype(np.int32)
    decoder = Decoder(program.to_json(), tensors, precision, threads, isa)
    expected = reference.run(program, tensors, ids[None], precision)[0]
    assert relative(whole(decoder, ids), expected) < 2e-5
    assert relative(one_by_one(decoder, ids), expected) < 2e-5
