"""Fixtures for tests of several packages."""

import os
import signal
import sys

import pytest

# A shell starts what it puts into the background with Ctrl-C ignored, and its children inherit that; tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests neither write into the user's cache folder nor depend on what was measured.
os.environ.setdefault("ONEBIT_CALIBRATION", "off")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Where PyTorch is not installed, the modules that import it are skipped: the engine is tested as those have it who only run files."""
    report = yield
    if report.failed and "No module named 'torch'" in str(report.longrepr):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "needs PyTorch")
    return report


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Tokens and vocabularies of these tests lie in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEBIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def processor(request):
    """Tests run on the CPU, their subprocesses too, also where there are GPUs: they compare exact numbers, and start more processes than there are
    GPUs. Only modules named test_cuda are about GPUs."""
    if "test_cuda" in request.module.__name__:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        if "torch" in sys.modules:
            patch.setattr(sys.modules["torch"].cuda, "is_available", lambda: False)
        yield
