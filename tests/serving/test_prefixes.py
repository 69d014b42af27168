"""Beginnings that texts share are computed once, and the texts stay the same bits."""

import numpy as np
import pytest
from running import TEXTS, started

from onebit.serving.prefixes import Prefixes, common


class Engine:
    """A decoder that only counts."""

    def __init__(self):
        self.lengths, self.made = {}, 0

    def open(self):
        self.made += 1
        self.lengths[self.made] = 0
        return self.made

    def fork(self, sequence, length):
        assert sequence in self.lengths
        self.made += 1
        self.lengths[self.made] = length
        return self.made

    def close(self, sequence):
        del self.lengths[sequence]


def test_common():
    assert common([1, 2, 3], [1, 2, 4]) == 2
    assert common([1, 2], [1, 2, 4]) == 2
    assert common([], [1]) == common([2], [1]) == 0


def test_the_longest_beginning_is_taken_and_the_least_used_is_closed():
    engine = Engine()
    prefixes = Prefixes(engine, 2)
    first, second, third = list(range(20)), list(range(100, 130)), list(range(200, 240))
    prefixes.keep(engine.open(), first)
    prefixes.keep(engine.open(), second)
    assert prefixes.open([*first[:15], 7, 7], []) == (3, 15)
    prefixes.keep(engine.open(), third)  # the second one goes: the first was used later
    assert len(prefixes) == 2
    assert prefixes.open(second, [])[1] == 0
    # Never all of a text: its last token's logits are needed.
    assert prefixes.open(first, [])[1] == len(first) - 1
    # What others write counts too, and what is short does not.
    other = engine.open()
    assert prefixes.open([*range(50, 70)], [(other, list(range(50, 64)))])[1] == 14
    assert prefixes.open(first[:5], [])[1] == 0
    prefixes.keep(engine.open(), [*first, 1])  # replaces the first, which begins it
    assert len(prefixes) == 2
    prefixes.clear()
    assert len(prefixes) == 0


def test_none_is_kept_where_none_may_be():
    engine = Engine()
    prefixes = Prefixes(engine, 0)
    prefixes.keep(engine.open(), list(range(20)))
    assert engine.lengths == {}


def shared(served):
    lines = [line for line in served.client.get("/metrics").text.splitlines() if 'kind="shared"' in line]
    return sum(float(line.split()[-1]) for line in lines)


@pytest.mark.parametrize("kept", [16, 0])
def test_texts_with_one_beginning(tmp_path, session, kept):
    words = np.random.default_rng(0).choice(["sea", "king", "and", "the", "old", "was"], 100)
    prompt = " ".join(words)
    length = len(session.tokenizer.encode(prompt))
    with started(tmp_path, TEXTS, "--prefixes", kept) as served:
        body = {"prompt": prompt, "n": 4, "seed": 1, "max_tokens": 10}
        answer = served.client.post("/v1/completions", json=body).json()
        expected = ["".join(session.generate(prompt, 10, seed=1 + i)) for i in range(4)]
        assert [choice["text"] for choice in answer["choices"]] == expected
        # The other three copied what the first had read.
        assert shared(served) >= 3 * (length - 1)
        # A chat goes on from its last answer; another question shares the beginning.
        for more in (expected[0] + " And then", " But"):
            before = shared(served)
            body = {"prompt": prompt + more, "seed": 5, "max_tokens": 40}
            answer = served.client.post("/v1/completions", json=body).json()
            assert answer["choices"][0]["text"] == "".join(session.generate(prompt + more, 40, seed=5))
            if kept:
                assert (
                    shared(served) - before == answer["usage"]["prompt_tokens_details"]["cached_tokens"] >= length - 1
                )
            else:
                assert shared(served) == before
        assert served.metric("onebit_prefixes_kept") <= kept


def test_a_text_that_outgrows_its_context_gives_nothing_wrong_away(served, session):
    prompt = "It was the time of the king and the sea and the old man"
    for length in (400, 20):
        answer = served.client.post("/v1/completions", json={"prompt": prompt, "seed": 9, "max_tokens": length}).json()
        assert answer["choices"][0]["text"] == "".join(session.generate(prompt, length, seed=9))
