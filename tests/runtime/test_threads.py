"""Sessions that share threads: the same outputs as with their own, from any number of Python threads."""

import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import onebit
from onebit.errors import OnebitError
from onebit.models import conv_classifier
from onebit.packing import pack

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 3), np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("packed") / "a.onebit"
    pack(conv_classifier(3, 3, (16, 24)), path, onebit.ImageTask(("ant", "bee", "cow"), (12, 10)))
    return path


def test_two_sessions_of_a_pool_give_what_each_gives_alone(images):
    pool = onebit.ThreadPool(3)
    image, text = onebit.load(images, threads=pool), onebit.load("books", threads=pool)
    logits = onebit.load(images, threads=3)(PIXELS)
    tokens = text.tokenizer.encode("It was a dark and stormy night")
    with onebit.load("books", threads=3).sequence() as sequence:
        following = sequence.feed(tokens)

    def classify(_):
        return np.array_equal(image(PIXELS), logits)

    def read(_):
        with text.sequence() as sequence:
            return np.array_equal(sequence.feed(tokens), following)

    with ThreadPoolExecutor(2) as executor:
        classified, written = executor.map(classify, range(1000)), executor.map(read, range(100))
        assert all(classified)
        assert all(written)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux lists them")
def test_sessions_of_a_pool_start_no_threads_and_the_last_one_ends_them(images):
    script = f"""
import gc, os, onebit
from onebit.runtime import load
load({str(images)!r}, threads=1)  # NumPy and the engine are there
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
pool = onebit.ThreadPool(4)
sessions = [load({str(images)!r}, threads=pool) for _ in range(3)]
print(count() - before)
del pool
print(count() - before, sessions[0].threads)
del sessions
gc.collect()
print(count() - before)
own = [load({str(images)!r}, threads=4) for _ in range(3)]
print(count() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["3", "3", "4", "0", "9"], "")


def test_a_pool_tells_its_threads():
    assert onebit.ThreadPool(2).threads == 2
    assert repr(onebit.ThreadPool(1)) == "ThreadPool(threads=1)"
    assert onebit.ThreadPool().threads == onebit.load("books").threads
    assert onebit.ThreadPool(2, pin_threads=True).threads == 2


def test_wrong_arguments_are_named(images):
    for threads in (0, -1, 257, True, 1.5, "2"):
        with pytest.raises(OnebitError, match=rf"^\[ThreadPool\] threads={threads!r}: use 1 to 256, or None"):
            onebit.ThreadPool(threads)
    with pytest.raises(OnebitError, match=r"^\[ThreadPool\] pin_threads=2: use True or False"):
        onebit.ThreadPool(2, pin_threads=2)
    with pytest.raises(
        OnebitError, match=r"^\[load\] pin_threads=True and a pool.*use onebit\.ThreadPool\(threads, pin"
    ):
        onebit.load(images, threads=onebit.ThreadPool(2), pin_threads=True)
    with pytest.raises(OnebitError, match=r"^\[load\] threads=True: use 1 to 256, or None for one per core$"):
        onebit.load(images, threads=True)


def test_a_signal_handler_is_refused_the_pool_whose_turn_it_interrupts(images):
    pool = onebit.ThreadPool(1)
    image, other = onebit.load(images, threads=pool), onebit.load(images, threads=pool)

    def compute(*_):
        other(PIXELS)

    before = signal.signal(signal.SIGALRM, compute)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    many = np.repeat(PIXELS, 20000, 0)
    try:
        with pytest.raises(OnebitError, match="what is asked during one cannot use its model or threads"):
            while True:
                image(many)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.array_equal(image(PIXELS), other(PIXELS))


def test_what_another_thread_asks_of_a_session_that_computes_waits_without_pythons_lock():
    session = onebit.load("books", threads=1)
    done = threading.Event()

    def ask():
        for _ in range(5):
            with session.sequence() as sequence:
                assert len(sequence) == 0
            assert session.memory_bytes > 0
        done.set()

    # While the main thread computes it listens to signals, for which it needs Python's lock.
    other = threading.Thread(target=ask)
    other.start()
    tokens = list(range(session.context))
    while not done.is_set():
        session.logits(tokens)
    other.join()
    gc.collect()


FORKED = """
import gc, os, signal, sys, threading, time
import numpy as np, onebit
pool = onebit.ThreadPool(3)
own, shared = onebit.load(FILE, threads=3), [onebit.load(FILE, threads=pool) for _ in range(2)]
pixels = np.zeros((64, 12, 10, 3), np.uint8)
logits = own(pixels)
def child(work):
    pid = os.fork()
    if not pid:
        signal.alarm(20)  # what hangs is killed
        if not work():
            os._exit(3)
        sys.exit(0)  # as a program ends, with all that lives
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, (work, status)
def computes():
    return all(np.array_equal(session(pixels), logits) for session in (own, *shared))
def anew():
    return np.array_equal(onebit.load(FILE, threads=pool)(pixels), logits)
def drops():
    global own, shared, pool
    own = shared = pool = None
    gc.collect()
    return True
for work in (computes, anew, drops, lambda: True):
    child(work)
go_on = True
def busy(session):
    while go_on:
        session(pixels)
threads = [threading.Thread(target=busy, args=(session,)) for session in (own, *shared)]
for thread in threads:
    thread.start()
for _ in range(10):
    child(computes)
    child(drops)
go_on = False
for thread in threads:
    thread.join()
assert computes()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_computes_alone_and_ends(images):
    script = FORKED.replace("FILE", repr(str(images)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
