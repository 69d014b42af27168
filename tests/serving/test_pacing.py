"""When the later tokens of turns are handed on."""

from onebit.serving.job import Event
from onebit.serving.pacing import Pacing


def texts(events):
    return [event.text for event in events]


def test_events_come_half_a_round_later_and_before_the_next_of_their_text():
    pacing = Pacing()
    first, second, third = object(), object(), object()
    assert pacing.begin([first]) == []
    pacing.hold([Event(first, "a")], 2)
    assert pacing.begin([second]) == []
    pacing.hold([Event(second, "b")], 2)
    assert texts(pacing.begin([third])) == ["a"]
    pacing.hold([Event(third, "c")], 2)
    # It is its turn again, sooner than expected: what is held back of it comes first, and all that is older.
    assert texts(pacing.begin([third])) == ["b", "c"]
    pacing.hold([Event(third, "d")], 5)
    assert texts(pacing.all()) == ["d"]
    assert pacing.all() == []
