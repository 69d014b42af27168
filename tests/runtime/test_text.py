"""Generate and score text with a packed model: compare with PyTorch, and test every argument."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import onebit
from onebit.errors import DataError, FormatError, OnebitError
from onebit.fileformat import PackedModel, load_model
from onebit.models import language_decoder
from onebit.packing import pack, to_packed_model
from onebit.runtime import load_image_session, load_text_session
from onebit.runtime.text import TextSession
from onebit.sampling import Sampling, choose_each
from onebit.schemes import BinaryNormalized
from onebit.text import Tokenizer, train_vocabulary

CONTEXT = 48
CORPUS = "the cat sat on the mat, and the dog sat on the cat; nobody knew why. wörter 😀!\n"
TASK = train_vocabulary([CORPUS * 50], 300)
TOKENIZER = Tokenizer(TASK)


def decoder():
    """A small decoder trained for a moment on one sentence: its answers must hang on what stands before."""
    torch.manual_seed(0)
    model = language_decoder(
        {"vocabulary": TOKENIZER.size, "context": CONTEXT, "blocks": 2, "features": 32, "heads": 4, "head": (32, 32)},
        residual_scale=0.35, logit_scale=3.0, embedding_widening=2, embedding_spread=0.1, scheme=BinaryNormalized(latent_spread=0.25),
    )  # fmt: skip
    ids = torch.tensor(TOKENIZER.encode(CORPUS * 40))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(60):
        starts = torch.randint(0, len(ids) - CONTEXT - 1, (8,), generator=torch.Generator().manual_seed(step))
        batch = torch.stack([ids[s : s + CONTEXT + 1] for s in starts])
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return decoder()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "cat.onebit"
    report = pack(model, path, TASK)
    assert report.bit_parameters == report.parameters
    assert not report.kept_float
    return path


@pytest.fixture(scope="module")
def session(file):
    return onebit.load(file, threads=1)


@pytest.fixture(scope="module")
def small_cache(file):
    return onebit.load(file, threads=1, cache="int8")


@pytest.fixture(scope="module")
def exact(file):
    return onebit.load(file, "float32", threads=1)


def greedy(model, ids, count):
    """The most probable continuation in PyTorch, without any cache; the window slides as the session's does."""
    ids, window, made = list(ids), list(ids)[-CONTEXT:], []
    never = [TOKENIZER.pad, TOKENIZER.unknown]
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([window]))[0, -1]
        logits[never] = -torch.inf
        token = int(logits.argmax())
        if token == TOKENIZER.separator:
            break
        ids.append(token)
        made.append(token)
        window = [*window, token] if len(window) < CONTEXT else ids[-CONTEXT // 2 :]
    return made


def test_a_file_gives_the_session_of_its_kind(session):
    assert isinstance(session, TextSession)
    assert (session.context, session.tokenizer.size) == (CONTEXT, TOKENIZER.size)
    assert session.memory_bytes > 0
    assert not callable(session) and not hasattr(session, "classify")
    assert isinstance(session, onebit.Session)


def test_a_session_of_a_known_kind(file):
    assert load_text_session(file, threads=1).context == CONTEXT
    with pytest.raises(OnebitError, match="is not an image network: use generate, score or logits"):
        load_image_session(file)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_float32_logits_are_pytorchs(model, exact, one_by_one):
    ids = [TOKENIZER.separator, *TOKENIZER.encode(CORPUS)][:CONTEXT]
    with torch.inference_mode():
        expected = model(torch.tensor([ids]))[0].numpy()
    difference = np.abs(exact.logits(ids, one_by_one=one_by_one) - expected).max() / np.abs(expected).max()
    assert difference < 1e-4


def test_int8_perplexity_is_within_a_hundredth(session, exact):
    text = "and the dog sat on the mat; the cat knew why, and nobody sat on the dog. " * 8
    int8, float32 = (np.exp(-np.mean(s.score_tokens(TOKENIZER.encode(text)))) for s in (session, exact))
    assert int8 != float32
    assert abs(int8 / float32 - 1) < 0.01


def test_int8_cache_perplexity_is_within_a_hundredth(session, small_cache):
    assert (session.cache, small_cache.cache) == ("bf16", "int8")
    text = "and the dog sat on the mat; the cat knew why, and nobody sat on the dog. " * 8
    bf16, int8 = (np.exp(-np.mean(s.score_tokens(TOKENIZER.encode(text)))) for s in (session, small_cache))
    assert int8 != bf16
    assert abs(int8 / bf16 - 1) < 0.01


def test_caches_that_do_not_fit_are_named(file, exact):
    assert exact.cache == "float32"
    with pytest.raises(OnebitError, match="cache='int4': use 'bf16' or 'int8'"):
        onebit.load(file, cache="int4")
    with pytest.raises(OnebitError, match="cache='int8': precision='float32' keeps its cache in float32"):
        onebit.load(file, "float32", cache="int8")


def test_greedy_text_is_pytorchs_for_200_tokens(model, exact):
    prompt = "the dog"
    made = [token for _, token in exact.generate_tokens([prompt], 200, temperature=0)]
    assert made == greedy(model, [TOKENIZER.separator, *TOKENIZER.encode(prompt)], 200)
    # The context is 48 tokens: to get so far it must have slid.
    assert len(made) == 200
    assert "".join(exact.generate(prompt, 200, temperature=0)) == TOKENIZER.decode(made)


@pytest.mark.parametrize("kind", ["session", "small_cache"])
def test_several_texts_at_once_are_those_that_each_would_be_alone(kind, request):
    session = request.getfixturevalue(kind)
    prompts = ["the cat", "", "nobody knew why the dog sat on", "mat"]
    options = {"max_new_tokens": 70, "temperature": 1.0, "top_k": 20}
    together = session.generate_batch(prompts, seed=5, **options)
    alone = ["".join(session.generate(p, seed=5 + i, **options)) for i, p in enumerate(prompts)]
    assert together == alone
    assert session.memory_bytes < 10_000_000  # their caches are gone


def test_a_seed_repeats_and_none_varies(session):
    def write(seed):
        return "".join(session.generate("the", 30, temperature=1.5, seed=seed))

    assert write(3) == write(3)
    assert len({write(seed) for seed in (1, 2, 3, 4)}) > 1
    assert len({write(None) for _ in range(4)}) > 1


def test_pieces_are_whole_characters(session):
    pieces = list(session.generate("wörter", 150, temperature=2.0, seed=1))
    assert all(pieces)
    text = "".join(pieces)
    # Bytes that make no character are shown as such, but no character is cut.
    assert text.encode("utf-8").decode("utf-8") == text


def test_a_stop_ends_the_text_and_is_not_given_out(session):
    whole = "".join(session.generate("the cat", 60, temperature=0))
    stop = whole[20:23]
    expected = whole[: whole.index(stop)]
    assert "".join(session.generate("the cat", 60, temperature=0, stop=stop)) == expected
    assert "".join(session.generate("the cat", 60, temperature=0, stop=["never there", stop])) == expected
    assert "".join(session.generate("the cat", 60, temperature=0, stop="never there")) == whole


@pytest.mark.parametrize("kind", ["session", "small_cache"])
def test_a_full_context_slides_or_stops(kind, request):
    session = request.getfixturevalue(kind)
    prompt = CORPUS * 3
    ids = TOKENIZER.encode(prompt)
    assert len(ids) + 1 > CONTEXT
    assert len(list(session.generate_tokens([prompt], 30, temperature=0))) == 30
    with pytest.raises(DataError, match=f"the prompt has {len(ids) + 1} tokens, the model's context is {CONTEXT}"):
        session.generate(prompt, overflow="stop")
    made = list(session.generate_tokens(["the"], 500, temperature=0, overflow="stop"))
    assert len(made) <= CONTEXT - len(TOKENIZER.encode("the"))


def test_score_is_pytorchs_log_softmax(model, exact):
    ids = TOKENIZER.encode(CORPUS)[: CONTEXT - 1]
    with torch.inference_mode():
        logits = model(torch.tensor([[TOKENIZER.separator, *ids]]))[0, :-1]
        expected = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].numpy()
    np.testing.assert_allclose(exact.score_tokens(ids), expected, rtol=1e-3, atol=1e-3)
    scored = exact.score("wörter 😀!")
    assert "".join(piece for piece, _ in scored) == "wörter 😀!"
    assert [p for _, p in scored] == exact.score_tokens(TOKENIZER.encode("wörter 😀!")).tolist()


def test_score_of_a_long_text_looks_back_half_a_context(exact):
    ids = TOKENIZER.encode(CORPUS * 8)
    scores = exact.score_tokens(ids)
    assert len(scores) == len(ids) > 2 * CONTEXT
    assert np.isfinite(scores).all()
    assert (scores <= 0).all()
    np.testing.assert_allclose(scores[:10], exact.score_tokens(ids[:10]), rtol=1e-4, atol=1e-4)
    assert exact.score_tokens([]).tolist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature=-0.1: use 0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0: use an integer from 1 up"),
        ({"top_p": 0}, "top_p=0: use a number above 0, at most 1"),
        ({"top_p": 1.01}, "top_p=1.01"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_new_tokens": 2.0}, "max_new_tokens=2.0: use an integer from 1 up"),
        ({"overflow": "wrap"}, "overflow='wrap'"),
        ({"stop": ""}, "stop is empty"),
        ({"stop": ["a", ""]}, "stop is empty"),
        ({"stop": 5}, "stop=5: give a text, a list of texts, or None"),
        ({"stop": b"a"}, "stop=b'a': give a text"),
        ({"stop": ["a", None]}, r"stop=\['a', None\]: give a text"),
        ({"temperature": "0.5"}, "temperature='0.5': use 0"),
        ({"temperature": None}, "temperature=None: use 0"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"temperature": True}, "temperature=True"),
        ({"top_k": 2.0}, "top_k=2.0: use an integer"),
        ({"top_k": "5"}, "top_k='5': use an integer"),
        ({"top_p": float("nan")}, "top_p=nan: use a number above 0"),
        ({"top_p": "0.5"}, "top_p='0.5': use a number above 0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty=nan"),
        ({"repetition_penalty": "1"}, "repetition_penalty='1'"),
        ({"min_p": -0.1}, "min_p=-0.1: use a number from 0 .all tokens. to 1"),
        ({"min_p": 1.1}, "min_p=1.1"),
        ({"min_p": None}, "min_p=None"),
        ({"presence_penalty": float("inf")}, "presence_penalty=inf: use a number; 0 turns it off"),
        ({"presence_penalty": "1"}, "presence_penalty='1'"),
        ({"seed": -1}, "seed=-1: use an integer from 0 up, or None"),
        ({"seed": 1.0}, "seed=1.0: use an integer"),
        ({"seed": "1"}, "seed='1': use an integer"),
        ({"seed": True}, "seed=True: use an integer"),
    ],
)
def test_arguments_out_of_range_are_named_at_once(session, monkeypatch, options, message):
    # Before the prompt is looked at: a tokenizer of a large vocabulary takes a while to make.
    monkeypatch.setattr(Tokenizer, "encode", lambda *_: pytest.fail("computed before the arguments were checked"))
    with pytest.raises(OnebitError, match=message):
        session.generate("the", **options)
    with pytest.raises(OnebitError, match=message):
        session.generate_pieces("the", **options)
    if "stop" not in options:
        for call in (session.generate_tokens, session.generate_batch):
            with pytest.raises(OnebitError, match=message):
                call(["the"], **options)


def test_numbers_of_numpy_are_numbers(session):
    options = {"max_new_tokens": 5, "temperature": 0.5, "top_k": 9, "top_p": 0.5, "seed": 3}
    numpy = {name: np.asarray(value)[()] for name, value in options.items()}
    assert list(session.generate("the", **numpy)) == list(session.generate("the", **options))
    assert session.generate_batch(["the"], **numpy) == session.generate_batch(["the"], **options)


def test_a_temperature_near_nothing_is_greedy(session):
    assert list(session.generate("the", 5, temperature=5e-324)) == list(session.generate("the", 5, temperature=0))


def test_prompts_that_are_not_unicode_are_replaced_and_said(session):
    def call_all(prompt):
        return [
            list(session.generate(prompt, 5, seed=1)),
            list(session.generate_pieces(prompt, 5, seed=1)),
            list(session.generate_tokens([prompt], 5, seed=1)),
            session.generate_batch(["the", prompt], 5, seed=1),
            session.score(prompt),
        ]

    with pytest.warns(UserWarning, match="the text is not valid Unicode: U\\+FFFD replaces it in 2 places") as warned:
        found = call_all("caf\udce9 a\ud83d")
    assert len(warned) == 5
    assert {w.filename for w in warned} == {__file__}  # where the user's call is
    assert found == call_all("caf\ufffd a\ufffd")
    assert "".join(piece for piece, _ in found[-1]) == "caf\ufffd a\ufffd"


@pytest.mark.parametrize("prompt", [None, b"abc", 5])
def test_prompts_that_are_not_texts_are_named(session, prompt):
    for call in (session.generate, session.generate_pieces, session.score):
        with pytest.raises(DataError, match=f"the text is a {type(prompt).__name__}: give a str"):
            call(prompt)
    for call in (session.generate_tokens, session.generate_batch):
        with pytest.raises(DataError, match=f"the text is a {type(prompt).__name__}: give a str"):
            call(["the", prompt])
        for prompts in (prompt, "the"):
            with pytest.raises(DataError, match="give a list of prompts, even for one"):
                call(prompts)


def test_prompts_may_come_from_an_iterator(session):
    prompts = ["the cat", "the dog"]
    assert session.generate_batch(iter(prompts), 5, seed=1) == session.generate_batch(prompts, 5, seed=1)


def test_a_long_word_is_seen_and_judged_whole(session):
    word = "汉字" * 400
    scored = session.score(word)
    assert "".join(piece for piece, _ in scored) == word
    assert len(scored) >= len(word)
    ids = [TOKENIZER.separator, *TOKENIZER.encode(word)]
    assert [t for _, t in session.generate_tokens([word], 1, temperature=0)] == [
        Sampling(0).choose(session.logits(ids[-CONTEXT:])[-1], [], np.random.default_rng(0), (0, 1))
    ]


@pytest.mark.parametrize("ids", [[-1], [0, TOKENIZER.size]])
def test_tokens_out_of_range_are_named(session, ids):
    for call in (session.logits, session.score_tokens):
        with pytest.raises(DataError, match=f"token {ids[-1]} is out of range: use 0 to {TOKENIZER.size - 1}"):
            call(ids)


def test_too_many_or_no_tokens(session):
    for count in (0, CONTEXT + 1):
        with pytest.raises(DataError, match=f"{count} tokens: give 1 to {CONTEXT}"):
            session.logits([3] * count)


def test_an_abandoned_text_frees_its_sequence(session):
    before = session.memory_bytes
    for _ in range(5):
        text = session.generate("the cat sat", 100, seed=0)
        next(text)
        text.close()
    assert session.memory_bytes <= before + 100_000
    for _ in range(5):
        session.generate("never begun")
    assert session._engine.open() == 0  # none was left open
    session._engine.close(0)


def test_a_vocabulary_of_another_size_is_refused(model, file):
    packed = load_model(file)
    other = train_vocabulary([CORPUS * 50], 280)
    with pytest.raises(FormatError, match="the vocabulary has 280 tokens, but the program gives"):
        PackedModel(packed.program, packed.tensors, other.to_json())
    with pytest.raises(ValueError, match="logits for a vocabulary of 280 tokens"):
        to_packed_model(model, other)
    with pytest.raises(FormatError, match="has no vocabulary"):
        PackedModel(packed.program, packed.tensors, {"kind": "text-generation"})


def test_sampling_follows_its_rules():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))

    def drawn(**options):
        random = np.random.default_rng(0)
        tokens = [Sampling(**{"top_p": None, **options}).choose(logits, [0], random) for _ in range(4000)]
        return np.bincount(tokens, minlength=4) / 4000

    np.testing.assert_allclose(drawn(temperature=1.0), [0.5, 0.3, 0.15, 0.05], atol=0.03)
    assert drawn(temperature=0.0).tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(drawn(temperature=1.0, top_k=2), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(drawn(temperature=1.0, top_p=0.7), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(drawn(temperature=1.0, top_p=0.01), [1, 0, 0, 0], atol=0)
    squares = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    np.testing.assert_allclose(drawn(temperature=0.5), squares / squares.sum(), atol=0.03)
    # The logit of token 0, log 0.5 < 0, is multiplied: its weight becomes 0.5^3.
    weights = np.array([0.125, 0.3, 0.15, 0.05])
    np.testing.assert_allclose(drawn(temperature=1.0, repetition_penalty=3.0), weights / weights.sum(), atol=0.03)
    np.testing.assert_allclose(drawn(temperature=1.0, min_p=0.5), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(drawn(temperature=1.0, top_k=3, min_p=0.01), np.array([50, 30, 15, 0]) / 95, atol=0.03)
    np.testing.assert_allclose(drawn(temperature=1.0, min_p=1.0), [1, 0, 0, 0], atol=0)
    # After the temperature: the square roots of the shares are 1, 0.77, 0.55 and 0.32.
    assert np.count_nonzero(drawn(temperature=2.0, min_p=0.6)) == 2
    assert Sampling(0).choose(logits, [], np.random.default_rng(0), never=[0, 1]) == 2
    # Of equally probable tokens the first are kept, and each of these is drawn.
    random, equal = np.random.default_rng(0), np.log(np.array([1, 2, 1, 1, 2], np.float32))
    for options in ({"top_k": 3}, {"top_k": None, "top_p": 0.65}):
        drawn = [Sampling(1.0, **{"top_p": None, **options}).choose(equal, [], random) for _ in range(400)]
        assert set(drawn) == {0, 1, 4}


def test_the_presence_penalty_counts_what_was_written_and_not_the_prompt():
    logits = np.array([3.0, 2.5, 2.0, 0.0], np.float32)
    random = np.random.default_rng(0)
    greedy = Sampling(0, presence_penalty=0.75)
    assert greedy.choose(logits, [0, 0, 0], random) == 0
    assert greedy.choose(logits, [0, 0, 0], random, made=1) == 1  # once, however often
    assert greedy.choose(logits, [2, 0, 1], random, made=2) == 0  # 2.25, 1.75, 2
    assert greedy.choose(logits, [0, 1, 2], random, made=1) == 0
    assert Sampling(0, presence_penalty=-1).choose(logits, [0, 1], random, made=1) == 1
    # Both penalties: the other one first.
    assert Sampling(0, repetition_penalty=2.0, presence_penalty=0.75).choose(logits, [0, 1], random, made=1) == 2


# The tokens that seeds give over fixed logits. Whatever chooses tokens one day gives the same ones.
PINNED = [
    ({}, [269, 117, 85, 67, 272, 85, 187, 51, 187, 110, 189, 100, 17, 50, 48, 18]),
    ({"temperature": 1.5, "top_p": None}, [238, 248, 166, 85, 14, 110, 114, 19, 10, 299, 189, 84, 119, 295, 268, 263]),
    (
        {"temperature": 1.5, "top_p": 1.0, "top_k": 20, "repetition_penalty": 1.4},
        [117, 10, 187, 67, 272, 238, 0, 51, 119, 102, 294, 226, 230, 148, 228, 227],
    ),
    (
        {"temperature": 1.2, "top_p": 0.95, "min_p": 0.1},
        [86, 270, 62, 254, 272, 113, 221, 51, 187, 282, 268, 37, 187, 141, 295, 176],
    ),
    (
        {"temperature": 2.0, "top_p": None, "min_p": 0.05, "presence_penalty": 1.5},
        [91, 195, 66, 88, 17, 247, 165, 170, 119, 263, 13, 7, 256, 272, 180, 86],
    ),
    (
        {"temperature": 1.0, "top_k": 50, "repetition_penalty": 1.2, "presence_penalty": 0.5, "min_p": 0.02},
        [17, 180, 151, 67, 272, 113, 221, 51, 187, 55, 138, 37, 188, 95, 189, 201],
    ),
    (
        {"temperature": 0, "presence_penalty": 1.0},
        [170, 68, 272, 85, 17, 119, 136, 51, 187, 51, 204, 187, 289, 102, 136, 221],
    ),
]


@pytest.mark.parametrize(("options", "tokens"), PINNED, ids=str)
def test_a_seed_gives_these_tokens(options, tokens):
    logits = (np.random.default_rng(7).integers(-4000, 4001, (16, 300)) / 1000).astype(np.float32)
    logits[:, ::17] += 2
    sampling = Sampling(**{"seed": 5, **options})
    past, random = [0, 17, 3], sampling.chance()
    for row in logits:
        past.append(sampling.choose(row, past, random, (34,), len(past) - 3))
    assert past[3:] == tokens


@given(
    settings=st.lists(
        st.builds(
            Sampling,
            temperature=st.sampled_from([0, 1e-3, 0.8, 1.0, 3.0]),
            top_k=st.sampled_from([None, 1, 7, 5000]),
            top_p=st.sampled_from([None, 0.05, 0.9, 1]),
            repetition_penalty=st.sampled_from([1.0, 1.3]),
            seed=st.integers(0, 9),
            min_p=st.sampled_from([0.0, 0.1, 1]),
            presence_penalty=st.sampled_from([0, 0.5, -2.0]),
        ),
        min_size=1,
        max_size=6,
    ),
    size=st.integers(3, 400),
    seed=st.integers(0, 9),
)
def test_texts_get_the_same_tokens_together_as_alone(settings, size, seed):
    logits = np.random.default_rng(seed).normal(0, 4, (len(settings), size)).astype(np.float32).round(1)
    past = [0, 2, size - 1]
    alone = [s.choose(row, past, s.chance(), (1,), 2) for s, row in zip(settings, logits, strict=True)]
    assert choose_each(logits, [(s, past, s.chance(), 2) for s in settings], (1,)) == alone


@pytest.mark.parametrize(
    "tokens", [None, 1.5, "text", b"x", {}, [None], [1.5], ["a"], [float("nan")], [[1], [1, 2]], [10**30], [-(10**30)]]
)
def test_what_are_no_tokens_is_refused(session, tokens):
    with pytest.raises(DataError, match=r"^\[tokens\][^\n]*$"):
        session.logits(tokens)


def test_an_array_is_no_word(session, file):
    with pytest.raises(OnebitError, match=r"^\[load\] cache=[^\n]*$"):
        onebit.load(file, cache=np.zeros(2))
    with pytest.raises(OnebitError, match=r"^\[generate\] overflow=[^\n]*$"):
        session.generate("a", overflow=np.zeros(2))


def test_a_sampling_its_temperature_and_single_options_are_one(session):
    expected = "".join(session.generate("the", 30, temperature=0.5, top_p=0.9, seed=3))
    assert "".join(session.generate("the", 30, Sampling(0.5, seed=3))) == expected
    assert "".join(session.generate("the", 30, 0.5, seed=3)) == expected
    assert "".join(session.generate("the", 30, Sampling(0.9, top_k=1), temperature=0.5, top_k=None, seed=3)) == expected
    assert session.generate_batch(["the"], 30, Sampling(0.5, seed=3)) == [expected]
    with pytest.raises(TypeError, match="tempature"):
        session.generate("the", tempature=0.5)


def test_the_defaults_of_python_and_of_the_command_are_one(session):
    from onebit.cli.main import build_parser

    parsed = vars(build_parser().parse_args(["generate", "a", "b"]))
    assert Sampling(**{name: parsed[name] for name in Sampling.__dataclass_fields__}) == Sampling()
    assert list(session.generate("the", 30, seed=1)) == list(session.generate("the", 30, 0.8, top_p=0.9, seed=1))


def test_what_was_written(session):
    written = session.write("the cat", 12, seed=1)
    assert written.text == "".join(session.generate("the cat", 12, seed=1))
    assert str(written) == "the cat" + written.text
    assert TOKENIZER.decode(list(written.tokens)).startswith(written.text)
    values = written.to_dict()
    assert (values["new_tokens"], values["prompt_tokens"]) == (12, len(TOKENIZER.encode("the cat")))
    assert 0 < values["first_token_ms"] <= 1e3 * values["seconds"] + 1
    assert written.tokens_per_second == pytest.approx(12 / written.seconds)


def test_a_sequence_of_tokens(session):
    ids = TOKENIZER.encode("the cat sat on the mat")
    expected = session.logits(ids)
    with session.sequence() as sequence:
        assert len(sequence) == 0
        np.testing.assert_array_equal(sequence.feed(ids[:-1], all=True), expected[:-1])
        np.testing.assert_array_equal(sequence.feed(np.array(ids[-1:], np.int32)), expected[-1])
        sequence.cut(len(ids) - 1)
        assert len(sequence) == len(ids) - 1
        np.testing.assert_array_equal(sequence.feed(ids[-1:]), expected[-1])
        with pytest.raises(DataError, match="cannot be cut there"):
            sequence.cut(len(ids) + 1)
        with pytest.raises(DataError, match="no tokens: give one or more"):
            sequence.feed([])
        with pytest.raises(DataError, match=f"the context is {CONTEXT}"):
            sequence.feed([3] * CONTEXT)
        for wrong in ([-1], np.array([TOKENIZER.size], np.int32)):
            with pytest.raises(DataError, match="is out of range"):
                sequence.feed(wrong)
    with pytest.raises(DataError, match="it is closed"):
        sequence.feed(ids)
    assert session._engine.open() == 0  # none was left open
    session._engine.close(0)
