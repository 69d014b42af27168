"""A server for all tests that change nothing of it."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import onebit

# make serve-test installs all of it.
collect_ignore_glob = ["test_*.py"] if find_spec("httpx") is None or find_spec("uvicorn") is None else []
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A server with a language model and a classifier."""
    from running import DIGITS, TEXTS, started

    with started(tmp_path_factory.mktemp("serve"), TEXTS, DIGITS) as server:
        yield server


@pytest.fixture(scope="session")
def session():
    """The language model, for what the server must give."""
    from running import TEXTS

    return onebit.load(TEXTS, threads=1)
