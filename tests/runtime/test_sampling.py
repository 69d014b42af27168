"""Tokens that the engine chooses, compared with a plain choice in NumPy that sorts the whole vocabulary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit import _engine
from onebit.errors import OnebitError
from onebit.sampling import Sampling, choose_each


def plain_choice(scores, temperature, top_k, top_p, min_p, random):
    """The token that such settings give, from scores (vocabulary,) without NaN."""
    scores = scores.astype(np.float64)
    if temperature == 0:
        return int(scores.argmax())
    with np.errstate(over="ignore"):
        powers = np.exp((scores - scores.max()) / temperature)
    order = np.argsort(-powers, kind="stable")
    if top_k:
        order = order[:top_k]
    if top_p < 1:
        order = order[: int(np.searchsorted(powers[order].cumsum(), top_p * powers[order].sum())) + 1]
    order = order[powers[order] >= min_p]
    if top_p == 1 and min_p == 0 and not 0 < top_k < len(scores):
        order = np.arange(len(scores))  # nothing is cut, so nothing is sorted
    sums = powers[order].cumsum()
    return int(order[np.searchsorted(sums, random * sums[-1], side="right")])


@given(
    size=st.sampled_from([1, 2, 7, 8, 9, 300, 5000]),
    digits=st.sampled_from([None, 1, 0]),
    temperature=st.sampled_from([0.0, 1e-300, 1e-3, 0.8, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 7, 100, 6000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.05, 1e-9]),
    min_p=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_tokens_are_those_of_a_plain_choice(size, digits, temperature, top_k, top_p, min_p, seed):
    random = np.random.default_rng(seed)
    scores = random.normal(0, 4, (3, size)).astype(np.float32)
    if digits is not None:  # so that some are equal
        scores = scores.round(digits)
    drawn = random.random(3).tolist()
    found = _engine.choose(scores, [(temperature, top_k, top_p, min_p, number) for number in drawn], [])
    expected = [
        plain_choice(row, temperature, top_k, top_p, min_p, number) for row, number in zip(scores, drawn, strict=True)
    ]
    assert found == expected
    doubled = _engine.choose(scores.astype(float), [(temperature, top_k, top_p, min_p, number) for number in drawn], [])
    assert doubled == expected


def test_what_is_not_a_number_and_what_is_never_written_is_not_chosen():
    scores = np.array([[np.nan, 1, 3, -np.inf, 2]], np.float32)
    for cuts in ((0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 4, 0.99, 0.0), (1.0, 0, 1.0, 0.01)):
        drawn = {_engine.choose(scores, [(*cuts, number)], [2])[0] for number in np.linspace(0, 0.9999999, 50)}
        assert drawn <= {1, 4}
        assert 4 in drawn
    assert _engine.choose(scores, [(1.0, 0, 0.9, 0.0, 0.5)], [1, 2, 4]) == [-1]
    with pytest.raises(OnebitError, match="no logits that are numbers"):
        choose_each(np.full((1, 3), np.nan, np.float32), [(Sampling(), [], np.random.default_rng(0), 0)])


def test_an_infinite_score_is_chosen():
    scores = np.array([[0, np.inf, 1]], np.float32)
    assert _engine.choose(scores, [(1.0, 0, 0.9, 0.0, 0.99)], []) == [1]


@pytest.mark.parametrize(
    ("scores", "draws", "never", "message"),
    [
        (np.zeros((1, 3), np.int32), [(1.0, 0, 1.0, 0.0, 0.5)], [], "neither float32 nor float64"),
        (np.zeros((2, 3), np.float32), [(1.0, 0, 1.0, 0.0, 0.5)], [], "a draw for each row"),
        (np.zeros((1, 3), np.float32), [(1.0, 0, 1.0, 0.0, 0.5)], [3], "token 3 has no score"),
        (np.zeros((1, 3), np.float32), [(1.0, 0, 1.0, 0.0, 0.5)], [-1], "token -1 has no score"),
    ],
)
def test_what_does_not_fit_is_refused(scores, draws, never, message):
    with pytest.raises(ValueError, match=message):
        _engine.choose(scores, draws, never)
