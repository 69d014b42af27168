"""Tasks, apart from tests/conformance: those made in Python, and their fit with programs."""

import pytest
from tokenizers import pre_tokenizers

from onebit.errors import DataError, FormatError
from onebit.images import ImageTask
from onebit.task import MAX_TOKEN_BYTES, byte_alphabet, check_task
from onebit.text import TextTask

NEEDED = ("[PAD]", "[UNK]", "[SEP]")


def test_the_characters_of_bytes_are_those_of_the_tokenizers():
    assert sorted(byte_alphabet()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert byte_alphabet()[ord("A")] == "A"
    assert byte_alphabet()[ord(" ")] == "Ġ"


def test_a_kind_that_is_not_known_is_left_alone():
    check_task({"kind": "other", "labels": 5})
    with pytest.raises(FormatError, match="without a kind"):
        check_task({"labels": ["a"]})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("a", "b", "a"), r"names 'a' more than once \(labels 0 and 2\)"),
        (("a\0b",), r"names 'a\\x00b' with a character of the code 0"),
        ((), "no labels"),
    ],
)
def test_labels_that_no_file_may_hold_make_no_task(labels, message):
    with pytest.raises(DataError, match=message):
        ImageTask(labels, (2, 3))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((*NEEDED, "a", "a"), r"names 'a' more than once \(tokens 3 and 4\)"),
        ((*NEEDED, "\0"), "with a character of the code 0"),
        ((*NEEDED, "ä" * (MAX_TOKEN_BYTES // 2 + 1)), "has 1026 bytes: needs at most 1024"),
        (("[PAD]", "[SEP]"), r"has no \[UNK\]"),
        ((*NEEDED, "a\nb"), "a line end"),
    ],
)
def test_tokens_that_no_file_may_hold_make_no_task(tokens, message):
    with pytest.raises(DataError, match=message):
        TextTask(tokens, "words")


def test_a_task_of_another_kind_is_named():
    with pytest.raises(FormatError, match="kind 'other': only 'image-classification'"):
        ImageTask.from_json({"kind": "other"})
    with pytest.raises(FormatError, match="kind 'other': only 'text-generation'"):
        TextTask.from_json({"kind": "other"})
