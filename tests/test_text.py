"""Tokenizers: what comes back, what is refused, and that a stream never splits a character."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.errors import DataError, FormatError
from onebit.text import TextTask, Tokenizer, load_vocabulary, train_vocabulary

TASK = train_vocabulary(
    ["the cat sat on the mat. " * 50, "wörter, ünd 😀 " * 20, "def f(x):\n    return x\n" * 20], 320
)
TOKENIZER = Tokenizer(TASK)
WORDS = ["[PAD]", "[UNK]", "[SEP]", "the", "cat", "##s", "sat", ",", "!"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_every_text_comes_back_from_a_vocabulary_of_bytes(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.unknown not in ids
    assert "".join(piece for _, piece in TOKENIZER.stream(ids)) == text


def test_frequent_words_are_one_token_and_special_names_are_letters():
    assert len(TOKENIZER.encode(" the cat")) == 2
    ids = TOKENIZER.encode("[SEP] ## [PAD]")
    assert not {TOKENIZER.separator, TOKENIZER.pad} & set(ids)
    assert TOKENIZER.decode(ids) == "[SEP] ## [PAD]"


def test_long_words_without_spaces_come_back():
    text = "x" * 900 + " " * 700 + "é" * 300
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_stream_gives_whole_characters_only():
    ids = TOKENIZER.encode("a😀é")
    pieces = [piece for _, piece in TOKENIZER.stream(ids)]
    assert len(pieces) == len(ids) > 3
    assert "".join(pieces) == "a😀é"
    assert all("\ufffd" not in piece for piece in pieces)


def test_a_stream_goes_on_from_its_prompt():
    ids = TOKENIZER.encode("the cat sat")
    assert "".join(piece for _, piece in TOKENIZER.stream(ids[1:], ids[:1])) == " cat sat"


def test_the_task_survives_json():
    assert TextTask.from_json(json.loads(json.dumps(TASK.to_json()))) == TASK


@pytest.mark.parametrize(
    "change",
    [{"kind": "x"}, {"vocabulary": ["a"]}, {"vocabulary": "a\nb"}, {"lowercase": "no"}, {"alphabet": "letters"}],
)
def test_a_damaged_task_is_refused(change):
    with pytest.raises(FormatError):
        TextTask.from_json(TASK.to_json() | change)


def write(tmp_path, words):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(words) + "\n", "utf-8")
    return path


def test_a_vocab_txt_is_read_as_bert_reads_it(tmp_path):
    task = load_vocabulary(write(tmp_path, WORDS))
    assert (task.alphabet, task.lowercase) == ("words", True)
    tokenizer = Tokenizer(task)
    ids = tokenizer.encode("The CATS, the dog!")
    assert [WORDS[i] for i in ids] == ["the", "cat", "##s", ",", "the", "[UNK]", "!"]
    assert tokenizer.decode(ids[:4]) == "the cats,"
    assert "".join(piece for _, piece in tokenizer.stream(ids[:3])) == "the cats"
    assert not load_vocabulary(write(tmp_path, [*WORDS, "Dog"])).lowercase


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([w for w in WORDS if w != "[UNK]"], r"has no \[UNK\]: add a line"),
        ([w for w in WORDS if w != "[SEP]"], r"has no \[SEP\]"),
        ([*WORDS, "cat"], "names 'cat' more than once"),
    ],
)
def test_a_wrong_vocab_txt_is_named(tmp_path, words, message):
    with pytest.raises(DataError, match=message):
        load_vocabulary(write(tmp_path, words))


def test_a_vocab_txt_that_is_none(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_vocabulary(tmp_path / "nothing.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not UTF-8"):
        load_vocabulary(tmp_path / "binary")


def test_sizes_and_ids_out_of_range():
    with pytest.raises(DataError, match="258 tokens: use at least 259"):
        train_vocabulary(["a"], 258)
    for wrong in (-1, TOKENIZER.size):
        with pytest.raises(DataError, match=f"token {wrong} is out of range"):
            TOKENIZER.decode([wrong])
