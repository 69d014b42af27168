"""What training changes in its process is what it was, after a run and after an exception."""

import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import warnings

import pytest
import torch

import onebit
from onebit.errors import OnebitError
from onebit.training import load_recipe, memory, openmp
from onebit.training.settings import LOGGERS, process_settings

TINY = load_recipe("digits").override({"widths": [4], "epochs": 1, "train_limit": 20, "threads": 1})
HELD = """
import ctypes
from pathlib import Path
from onebit.training.settings import process_settings

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def held_mib():
    blocks = [libc.malloc(16 << 20) for _ in range(20)]
    for block in blocks:
        ctypes.memset(block, 1, 16 << 20)
    for block in blocks:
        libc.free(block)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

before = held_mib()
with process_settings(1):
    inside = held_mib()
print(before, inside, held_mib())
"""


def settings():
    return {
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
        "living": sorted(thread.name for thread in threading.enumerate()),
        "filters": list(warnings.filters),
        "show": warnings.showwarning,
        "levels": [logging.getLogger(name).level for name in LOGGERS],
        "handlers": [list(logging.getLogger(name).handlers) for name in LOGGERS],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "random": torch.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    """No choice of a user stands in the way, and what Lightning imports late has changed the filters of warnings."""
    import torch.utils.tensorboard  # noqa: F401

    for name in (*openmp.CHOICES, *memory.CHOICES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_leaves_the_process_as_it_was(tmp_path, threads):
    before = settings()
    onebit.train(TINY, tmp_path / "a", progress=False, threads=threads)
    assert settings() == before


def test_a_run_that_raises_leaves_the_process_as_it_was(tmp_path):
    before = settings()
    keys = {"learning_rate": 1e30, "binary": False, "batch_size": 4, "threads": 2}
    with pytest.raises(OnebitError, match="the loss is"):
        onebit.train(TINY, tmp_path / "a", progress=False, **keys)
    assert settings() == before


def test_the_body_has_its_settings(monkeypatch):
    before = settings()
    monkeypatch.setattr(openmp, "cores", lambda: 4)
    with process_settings(3):
        assert len(threading.enumerate()) == len(before["living"]) + 1
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (3, "3")
        assert {logging.getLogger(name).level for name in LOGGERS} == {logging.ERROR}
        os.environ["ONEBIT_TEST"] = "left behind"
        torch.manual_seed(5)
    assert settings() == before
    with process_settings(1, quiet=False):
        assert [logging.getLogger(name).level for name in LOGGERS] == before["levels"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_freed_memory_goes_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    before, inside, after = map(int, done.stdout.split())
    assert inside > before + 200  # of 320 MiB
    assert after < before + 100
