"""Threads that wait for each other sleep: measured by the processor time of a process that mostly waits."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from onebit.training import openmp

MAPS = Path("/proc/self/maps")
GNU = MAPS.exists() and "libgomp" in MAPS.read_text()  # the import above has loaded PyTorch
PROGRAM = """
import threading, time
import torch
from onebit.training.openmp import use_threads

def waiting_ms():
    for _ in range(5):
        x.add_(1)
    before = time.process_time()
    for _ in range(40):
        x.add_(1)
        time.sleep(0.003)
    return 1e3 * (time.process_time() - before)

x = torch.ones(1 << 16)
torch.set_num_threads(2)
first = waiting_ms()
use_threads(2)
use_threads(2)
print(first, waiting_ms(), sum(thread.name == "onebit-openmp" for thread in threading.enumerate()), torch.get_num_threads())
"""


def waits():
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=kept)
    return [float(word) for word in done.stdout.split()]


@pytest.mark.skipif(openmp.cores() < 2, reason="needs two processors")
@pytest.mark.skipif(not GNU, reason="needs a PyTorch with GNU's OpenMP")
def test_threads_that_wait_sleep():
    spinning, sleeping, parked, threads = waits()
    assert sleeping < spinning / 2
    assert parked >= 1
    assert threads == 2


@pytest.mark.parametrize("choice", [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "5")])
def test_a_choice_of_the_user_stands(choice, monkeypatch):
    counts, parked = [], []
    monkeypatch.setattr(openmp, "cores", lambda: 2)
    monkeypatch.setattr(openmp, "_parked", parked)
    monkeypatch.setattr(openmp, "_park", lambda: parked.append(Thread()))
    monkeypatch.setattr(openmp.torch, "set_num_threads", counts.append)
    for name in openmp.CHOICES:
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as chosen:
        chosen.setenv(*choice)
        openmp.use_threads(2)
    assert (counts, parked) == ([2], [])
    openmp.use_threads(2)
    assert len(parked) == 1
