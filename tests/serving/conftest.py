"""A server for all tests that change nothing of it."""

import sys
from pathlib import Path

import pytest

import onebit

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
sys.path.insert(0, str(Path(__file__).parent))

from running import DIGITS, TEXTS, started


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A server with a language model and a classifier."""
    with started(tmp_path_factory.mktemp("serve"), TEXTS, DIGITS) as server:
        yield server


@pytest.fixture(scope="session")
def session():
    """The language model, for what the server must give."""
    return onebit.load(TEXTS, threads=1)
