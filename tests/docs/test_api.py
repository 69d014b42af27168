"""docs/api.md names what the modules export, all of it and nothing else."""

import importlib
import inspect
import re
import subprocess
import sys

import pages
import pytest

SECTIONS = dict(
    re.findall(r"^## (onebit[\w.]*)\n(.*?)(?=^## |\Z)", (pages.ROOT / "docs/api.md").read_text("utf-8"), re.M | re.S)
)


def public(name: str) -> set[str]:
    """`__all__`, or the functions and classes that are made in the module."""
    module = importlib.import_module(name)
    if hasattr(module, "__all__"):
        return set(module.__all__)
    members = inspect.getmembers(module, lambda x: inspect.isclass(x) or inspect.isfunction(x))
    return {key for key, value in members if value.__module__ == name and not key.startswith("_")}


def test_the_page_has_the_rooms_that_users_enter():
    assert {"onebit", "onebit.nn", "onebit.schemes", "onebit.models", "onebit.optim", "onebit.training"} <= set(
        SECTIONS
    )


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_names_what_is_exported(name):
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", SECTIONS[name], re.M)
    assert sorted(listed) == sorted(public(name))
    assert len(re.findall(r"^\| `", SECTIONS[name], re.M)) == len(listed)
    for member in listed:
        assert getattr(importlib.import_module(name), member) is not None


def test_every_name_of_the_package_is_reached_from_a_bare_import():
    script = """
import sys, onebit
assert not {"torch", "numpy"} & set(sys.modules)
assert not [name for name in onebit.__all__ if name != "__version__" and name in vars(onebit)]
import onebit.evaluation, onebit.training.start, onebit.scoring.run
for name in onebit.__all__:
    value = getattr(onebit, name)
    if name in ("bench", "evaluate", "info", "score", "train", "verify"):
        assert callable(value), name
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
