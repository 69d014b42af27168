"""The library's reports of its progress."""

import onebit
from onebit.progress import Progress, listen, report, track


def test_whoever_listens_hears_each_step_and_nobody_else_does():
    heard = []
    report("work", 1, 2, "things")
    with listen(heard.append):
        assert list(track(range(3), "read", "images", each=10, total=25)) == [0, 1, 2]
        report("work", 1, 2, "things")
    report("work", 2, 2, "things")
    assert heard == [
        Progress("read", 10, 25, "images"),
        Progress("read", 20, 25, "images"),
        Progress("read", 25, 25, "images"),
        Progress("work", 1, 2, "things"),
    ]


def test_the_inner_listener_hears_alone():
    outer, inner = [], []
    with listen(outer.append):
        with listen(inner.append):
            report("work", 1, 2, "things")
        report("work", 2, 2, "things")
    assert [p.done for p in outer] == [2]
    assert [p.done for p in inner] == [1]


def test_a_bench_tells_its_threads_and_its_seconds():
    heard = []
    with listen(heard.append):
        onebit.bench("books-10m", threads=[1], seconds=0.05)
    assert {(p.work, p.total, p.unit) for p in heard} == {("measure with 1 thread", 0.05, "s")}
    assert [p.done for p in heard] == sorted(p.done for p in heard)
