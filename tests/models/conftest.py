"""What the tests of decoders share."""

import sys
from pathlib import Path

import pytest

from onebit.text import TextTask, train_vocabulary

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def task():
    """A task of 300 tokens."""
    trained = train_vocabulary(["it was a dark and stormy night, and one bit was on"] * 20, 300).vocabulary
    return TextTask((*trained, *(f"unused{i}" for i in range(300 - len(trained)))))
