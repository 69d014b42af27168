"""What tests of several rooms share."""

import pytest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Tokens and vocabularies of these tests lie in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEBIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
