"""Tokenizers: what comes back, what is refused, and that a stream never splits a character."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onebit.errors import DataError, FormatError
from onebit.fileformat import load_model
from onebit.pretrained import find
from onebit.text import TextTask, Tokenizer, load_vocabulary, train_vocabulary, valid_text

TASK = train_vocabulary(
    ["the cat sat on the mat. " * 50, "wörter, ünd 😀 " * 20, "def f(x):\n    return x\n" * 20], 320
)
TOKENIZER = Tokenizer(TASK)
BOOKS = Tokenizer(TextTask.from_json(load_model(find("books")).task))
WORDS = ["[PAD]", "[UNK]", "[SEP]", "the", "cat", "##s", "sat", ",", "!"]


# Runs of one character make long words.
TEXTS = st.lists(
    st.builds(str.__mul__, st.text(min_size=1, max_size=8), st.sampled_from([1, 1, 1, 1, 2, 40, 300])), max_size=12
).map("".join)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, BOOKS], ids=["trained", "books"])
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
@example(text="\ufffd")
@example(text="a" * 3000 + "\ufffd" * 400)
def test_every_text_comes_back_from_a_vocabulary_of_bytes(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unknown not in ids
    assert "".join(piece for _, piece in tokenizer.stream(ids)) == text
    assert tokenizer.encode_many([text, "the cat"]) == [ids, tokenizer.encode("the cat")]


@pytest.mark.parametrize(
    "text",
    [
        "ACGT" * 2000,
        "x" * 100_000,
        "汉字" * 3000,
        "ไม่มี" * 900,
        "😀" * 1000,
        "0123456789" * 500,
        "=" * 5000,
        " \n" * 3000,
    ],
)
def test_a_run_without_a_break_is_no_unknown_word(text):
    for tokenizer in (TOKENIZER, BOOKS):
        ids = tokenizer.encode(text)
        assert tokenizer.unknown not in ids
        assert tokenizer.decode(ids) == text


def test_a_vocabulary_is_trained_on_words_of_any_length():
    text = "ACGT" * 30_000
    tokenizer = Tokenizer(train_vocabulary([text], 270))
    assert len(tokenizer.encode(text)) < len(text) / 4
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ordinary_texts_keep_the_tokens_that_packed_files_were_trained_with():
    assert BOOKS.encode("It was") == [780, 316]
    ids = [486, 253, 48, 337, 14, 486, 254, 399, 390, 71, 130, 112, 286, 637, 130, 121, 130, 112, 71, 92, 14]
    assert BOOKS.encode("“Nay,” said Señor Núñez, 3.14 times…") == [*ids, 223, 21, 16, 19, 22, 1899, 486, 102]
    assert BOOKS.encode("Once  upon\n\ta time") == [2242, 327, 223, 605, 201, 200, 67, 622]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("caf\udce9 noir", ("caf\ufffd noir", 1)),  # a byte of an argument that is not UTF-8
        ("a\udce2\udc82\udcff", ("a\ufffd\ufffd", 2)),  # bytes as a file's are replaced: a cut character counts once
        ("a\ud83d", ("a\ufffd", 1)),
        ("\ud83d\ude00\ude00", ("😀\ufffd", 1)),  # escapes in JSON
        ("\ufffd\ud83d", ("\ufffd\ufffd", 1)),
        ("é", ("é", 0)),
    ],
)
def test_what_is_not_unicode_is_replaced(text, expected):
    assert valid_text(text) == expected
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == expected[0]
    assert TOKENIZER.encode_many([text])[0] == TOKENIZER.encode(text)


@pytest.mark.parametrize("text", [None, b"abc", 5, ["a"]])
def test_what_is_not_a_text_is_named(text):
    with pytest.raises(DataError, match=rf"\[tokenizer\] a text of type {type(text).__name__}: give a str"):
        TOKENIZER.encode(text)
    with pytest.raises(DataError, match="give a str"):
        TOKENIZER.encode_many([text])


def test_frequent_words_are_one_token_and_special_names_are_letters():
    assert len(TOKENIZER.encode(" the cat")) == 2
    ids = TOKENIZER.encode("[SEP] ## [PAD]")
    assert not {TOKENIZER.separator, TOKENIZER.pad} & set(ids)
    assert TOKENIZER.decode(ids) == "[SEP] ## [PAD]"


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
        ([*WORDS, "", "a", "", "b"], "names '' more than once"),
        (["[PAD]\t12", *WORDS[1:]], r"line 1 is '\[PAD\]\\t12': write one token per line, with nothing after it"),
    ],
)
def test_a_wrong_vocab_txt_is_named(tmp_path, words, message):
    with pytest.raises(DataError, match=message):
        load_vocabulary(write(tmp_path, words))


@pytest.mark.parametrize(
    ("begin", "between", "end"),
    [
        ("\ufeff", "\n", "\n"),
        ("", "\n", "\n\n\n"),
        ("", "\n", ""),
        ("\ufeff", "\r\n", "\r\n \r\n"),
        ("", " \t\n", "\t"),
    ],
)
def test_the_form_of_a_vocab_txt_moves_no_token(tmp_path, begin, between, end):
    words = [*WORDS, "a\u2028", "\u0085", "##\x0b", "\x0cb", "\x1c", "\x1d", "\x1e", "\u2029", "\u3000", "last"]
    path = tmp_path / "vocab.txt"
    path.write_bytes((begin + between.join(words) + end).encode())
    assert load_vocabulary(path).vocabulary == tuple(words)


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


@pytest.mark.parametrize("wrong", [None, 5, [1.5], ["a"], iter([5])])
def test_ids_of_another_type_are_one_line(wrong):
    with pytest.raises(DataError, match=r"^\[tokenizer\] ids=.*: give a list of integers$"):
        TOKENIZER.decode(wrong)
