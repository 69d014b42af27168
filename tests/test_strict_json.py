"""The JSON reader, apart from tests/conformance: valid values, and the form of quoted values in errors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit.errors import FormatError
from onebit.strict_json import excerpt, parse

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda t: st.lists(t) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), t),
)  # fmt: skip


@given(TREES, st.booleans())
def test_ordinary_json_reads_as_json_loads_does(tree, ascii_only):
    text = json.dumps(tree, ensure_ascii=ascii_only)
    assert parse(text, "text") == json.loads(text)


@given(st.text(alphabet='[]{}",:0123456789.-+eE\\unltrfasd \n\t', max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        parse(text, "text")
    except FormatError as error:
        assert str(error).startswith("[text] not JSON: ")
        assert "\n" not in str(error)


def test_integers_stay_whole():
    assert parse("[1, -0, 1.0, 9007199254740993]", "text") == [1, 0, 1.0, 9007199254740993]
    assert [type(value) for value in parse("[1, -0, 1.0, 1e0]", "text")] == [int, int, float, float]


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        ("a\nb\x1b\u202e", r"'a\nb\x1b\u202e'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 10**7, "'" + "x" * 56 + "..."),
        ([1] * 100, str([1] * 19) + "..."),
    ],
)
def test_excerpts_are_short_and_on_one_line(value, spelled):
    assert excerpt(value)[:50] == spelled[:50]
    assert len(excerpt(value)) <= 60
    excerpt(value).encode()
