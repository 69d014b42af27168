"""Compare the engine's tokenizer with Hugging Face tokenizers: texts of many scripts, broken texts, long texts, and their times."""

import functools
import os
import random
import runpy
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

import onebit
from onebit._engine import Tokenizer as EngineTokenizer
from onebit.errors import DataError
from onebit.fileformat import load_model
from onebit.pretrained import find
from onebit.text import TextTask, Tokenizer, load_vocabulary, train_vocabulary

ROOT = Path(__file__).parents[1]
BERT = Path(os.environ.get("ONEBIT_BERT", ROOT.parent / "shared/data/bert-base-uncased")) / "vocab.txt"
SPECIALS = ("[PAD]", "[UNK]", "[SEP]")
# Printable ASCII four times: the frequent case.
SCRIPTS = {
    "control characters": [(0, 0x20), (0x7F, 0xA0), (0x200B, 0x2010), (0x2028, 0x2030), (0x2060, 0x2070), (0xFFF0, 0x10000)],
    "latin": [(0x20, 0x7F), (0x20, 0x7F), (0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x1E00, 0x1F00)],
    "marks": [(0x41, 0x5B), (0x61, 0x7B), (0x300, 0x370), (0x1AB0, 0x1B00), (0x1DC0, 0x1E00), (0x20D0, 0x2100)],
    "greek and cyrillic": [(0x370, 0x400), (0x400, 0x530), (0x1F00, 0x2000)],
    "arabic and hebrew": [(0x590, 0x600), (0x600, 0x700), (0xFB1D, 0xFE00)],
    "indic": [(0x900, 0xE00)],
    "thai and tibetan": [(0xE00, 0x1000)],
    "cjk": [(0x3000, 0x3100), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x20100), (0x2F800, 0x2FA20)],
    "hangul": [(0x1100, 0x1200), (0xAC00, 0xD7A4)],
    "emoji": [(0x1F300, 0x1F900), (0x200D, 0x200E), (0xFE0F, 0xFE10), (0x1F3FB, 0x1F400), (0x1F1E6, 0x1F200)],
    "digits": [(0x30, 0x3A), (0x660, 0x66A), (0x966, 0x970), (0x2150, 0x2190), (0x1D7CE, 0x1D800)],
    "signs": [(0x21, 0x30), (0x3A, 0x41), (0x2000, 0x2070), (0x2190, 0x2400), (0x3000, 0x3030)],
    "marks that stay": [(0x1D100, 0x1D200), (0x1E000, 0x1E030), (0x1E940, 0x1E950), (0x8D4, 0x8E2), (0x302A, 0x3030)],
    "private and unassigned": [(0xE000, 0xE100), (0x378, 0x37A), (0xF0000, 0xF0010), (0xE0100, 0xE0110), (0x40000, 0x40010)],
    "any": [(0, 0xD800), (0xE000, 0x110000)],
    "surrogates": [(0x20, 0x7F), (0xD800, 0xE000)],
}  # fmt: skip
BETWEEN = (" ", " ", "  ", "\n", " \n\n ", "\t", "'s ", "'ll", " '", "...", "-", " 12", "")


def make_text(random, scripts):
    """Up to some hundred characters, in short stretches of a script, with what stands between words."""
    ranges = [part for script in random.choices(scripts, k=random.randint(1, 3)) for part in SCRIPTS[script]]
    parts = []
    for _ in range(random.choice([1, 2, 5, 20])):
        low, high = random.choice(ranges)
        parts += [chr(random.randrange(low, high)) for _ in range(random.randint(1, 7))]
        if random.random() < 0.005:
            parts.append(random.choice(parts) * random.choice([60, 110]))  # the library takes cubic time
        parts.append(random.choice(BETWEEN))
    return "".join(parts)


@functools.cache
def texts():
    """10,000 texts, a like share of each script."""
    source, names = random.Random(1), [name for name in SCRIPTS if name != "surrogates"]
    return [make_text(source, [names[i % len(names)], *names]) for i in range(10_000)]


@functools.cache
def trained():
    return train_vocabulary(
        ["the cat sat on the mat. " * 50, "wörter, ünd 😀 " * 20, "def f(x):\n    return x\n" * 20], 320
    )


@functools.cache
def shipped():
    return TextTask.from_json(load_model(find("books")).task)


@functools.cache
def characters(lowercase):
    """A vocabulary of words in which nearly no character of `texts` is unknown, so that each is compared; and some pieces of several characters."""
    text = "".join(texts())
    text += normalizers.BertNormalizer(lowercase=True).normalize_str(text)
    known = sorted(set(text) - set("\n\0 "))
    words = [text[i : i + 3] for i in range(0, 30_000, 3) if text[i : i + 3].isalpha()]
    return TextTask((*SPECIALS, *known, *dict.fromkeys([*(f"##{c}" for c in known), *words])), "words", lowercase)


def bert():
    if not BERT.exists():
        pytest.skip("needs the vocabulary of bert-base-uncased")
    return load_vocabulary(BERT)


TASKS = {
    "trained": trained,
    "books": shipped,
    "lowercase characters": lambda: characters(True),
    "characters": lambda: characters(False),
    "bert": bert,
    "bert with case": lambda: TextTask(bert().vocabulary, "words", False),
}
each_task = pytest.mark.parametrize("name", TASKS)


@functools.cache
def both(name):
    """The engine's tokenizer and the library's."""
    task = TASKS[name]()
    of_bytes = task.alphabet == "bytes"
    ids = {token: index for index, token in enumerate(task.vocabulary)}
    library = tokenizers.Tokenizer(
        models.WordPiece(
            ids,
            unk_token="[UNK]",
            continuing_subword_prefix="" if of_bytes else "##",
            max_input_chars_per_word=10**6 if of_bytes else 100,
        )
    )
    if of_bytes:
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
    else:
        library.normalizer = normalizers.BertNormalizer(lowercase=task.lowercase)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        library.decoder = decoders.WordPiece()
    return Tokenizer(task), library


@each_task
def test_ten_thousand_texts_have_the_tokens_of_the_library(name):
    mine, library = both(name)
    made = mine.encode_many(texts())
    expected = [encoding.ids for encoding in library.encode_batch_fast(texts())]
    differing = [(text, a, b) for text, a, b in zip(texts(), made, expected, strict=True) if a != b]
    assert not differing, f"{len(differing)} differ, the first is {differing[0]}"
    if "characters" in name:
        assert sum(ids.count(mine.unknown) for ids in made) < 0.01 * sum(map(len, made))
    assert all(len(ids) <= len(text.encode()) for text, ids in zip(texts(), made, strict=True))


@pytest.mark.parametrize("name", ["trained", "books"])
def test_ten_thousand_texts_come_back_from_bytes(name):
    mine, _ = both(name)
    assert all(mine.decode(ids) == text for text, ids in zip(texts(), mine.encode_many(texts()), strict=True))


@each_task
def test_any_tokens_are_decoded_as_the_library_decodes_them(name):
    mine, library = both(name)
    source = random.Random(2)
    for _ in range(500):
        ids = [source.randrange(mine.size) for _ in range(source.randint(0, 20))]
        text = mine.decode(ids)
        assert text == library.decode(ids, skip_special_tokens=False)
        streamed = "".join(piece for _, piece in mine.stream(ids))
        # A character that is not complete at the end is not given.
        assert streamed == text or (mine.task.alphabet == "bytes" and text.startswith(streamed))
        cut = source.randint(0, len(ids))
        rest = "".join(piece for _, piece in mine.stream(ids[cut:], ids[:cut]))
        if mine.task.alphabet == "words":
            assert mine.decode(ids[:cut]) + rest == text


def test_english_is_closed_up_as_the_library_does_it():
    words = [*"abc", "'", ".", "?", "!", ",", "n't", "'m", "do not", "'s", "'ve", "'re", "##n", "x .", " ' "]
    task = TextTask((*SPECIALS, *words), "words")
    library = tokenizers.Tokenizer(models.WordPiece({t: i for i, t in enumerate(task.vocabulary)}, unk_token="[UNK]"))
    library.decoder = decoders.WordPiece()
    mine = Tokenizer(task)
    for first in range(mine.size):
        for second in range(mine.size):
            ids = [first, second, 3]
            assert mine.decode(ids) == library.decode(ids, skip_special_tokens=False)
            assert "".join(piece for _, piece in mine.stream(ids)) == mine.decode(ids)


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8")), st.sampled_from([1, 1, 1, 40, 150]))
@example("x" * 1000 + " " + "nowthecatsatonthemat" * 30, 1)
@example("\u1d16d\u1d165\u302e", 2)
def test_what_hypothesis_finds_is_no_other(text, times):
    text = (text * times)[:600]
    for name in ("trained", "books", "lowercase characters"):
        mine, library = both(name)
        assert mine.encode(text) == library.encode(text).ids


def test_broken_texts_are_those_of_python_with_replacements():
    """Lone surrogates in Python, and bytes that are not UTF-8 in a file, give the same tokens."""
    source = random.Random(3)
    mine, _ = both("books")
    for _ in range(300):
        text = make_text(source, ["surrogates"])
        ids = mine.encode(text)
        assert ids == mine.encode(mine.decode(ids))
        broken = source.randbytes(source.randint(1, 40))
        assert mine.encode(broken.decode("utf-8", "surrogateescape")) == mine.encode(broken.decode("utf-8", "replace"))


def test_every_character_is_what_the_library_takes_it_for():
    """The tables of the engine are those that the installed library gives."""
    script = ROOT / "engine/src/unicode_tables.py"
    if not script.exists():
        pytest.skip("needs the repository")
    same = script.with_suffix(".inc").read_text() == runpy.run_path(str(script))["text"]()
    assert same, f"tokenizers {tokenizers.__version__} takes characters for something else, or the tables were edited"


def slow_texts(length):
    return ["a" * length, "=" * length, " \n" * (length // 2), "a b" * (length // 3), "汉字" * (length // 6), "\u0301" * (length // 2)]  # fmt: skip


def seconds(work):
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.parametrize("alphabet", ["bytes", "words"])
def test_time_is_linear_in_the_text(alphabet):
    """Ten times the text takes about ten times as long, and not a hundred times; so does a text in which each long match fails near its end."""
    near = "ab" * 127 + "a"
    pieces = ("ab" * 128, near[:200], "##" + "ab" * 20, "##" + "a" * 40, "a", "b", "##a", "##b")
    base = shipped().vocabulary if alphabet == "bytes" else SPECIALS
    task = TextTask((*base, *(piece for piece in pieces if piece not in base)), alphabet)
    mine = EngineTokenizer("\n".join(task.vocabulary), alphabet == "bytes", False)
    mine.encode("a")
    for short, long in zip([*slow_texts(100_000), near * 400], [*slow_texts(1_000_000), near * 4000], strict=True):
        one = min(seconds(lambda short=short: mine.encode(short)) for _ in range(3))
        ten = min(seconds(lambda long=long: mine.encode(long)) for _ in range(2))
        assert ten < 40 * one + 0.05, f"{short[:3]!r}: {one:.4f} s, ten times the text: {ten:.4f} s"


def test_a_batch_lets_other_threads_run():
    mine, _ = both("books")
    parts = ["It was a dark and stormy night; the rain fell in torrents. " * 300] * 200
    beats, done = [], threading.Event()

    def beat():
        while not done.is_set():
            beats.append(time.perf_counter())
            time.sleep(0.001)

    mine.encode("a")
    thread = threading.Thread(target=beat)
    thread.start()
    started = time.perf_counter()
    mine.arrays(parts)
    ended = time.perf_counter()
    done.set()
    thread.join()
    assert sum(started < at < ended for at in beats) >= 3


def test_arrays_are_the_lists():
    mine, _ = both("trained")
    assert [ids.tolist() for ids in mine.arrays(["the cat", ""])] == mine.encode_many(["the cat", ""])
    assert all(ids.dtype == np.int32 for ids in mine.arrays(["the cat", ""]))
    assert mine.encode_many([]) == []


def test_a_vocabulary_of_foreign_tokens_finds_none_of_them():
    base = (*SPECIALS, *onebit.task.byte_alphabet())
    mine = Tokenizer(TextTask((*base, "漢字", "a b", "\x7f\x01", "ab", "é\u00a0"), "bytes"))
    assert mine.encode("漢字a bab") == [
        *map(base.index, (onebit.task.byte_alphabet()[b] for b in "漢字a b".encode())),
        len(base) + 3,
    ]
    assert mine.decode([len(base), len(base) + 1]) == "漢字a b"


@pytest.mark.parametrize("index", [-1, 10**12])
def test_an_id_that_is_none_is_named(index):
    mine, _ = both("trained")
    with pytest.raises(DataError, match="out of range"):
        mine.decode([index])
    with pytest.raises((ValueError, TypeError)):
        next(mine.stream([index]))
