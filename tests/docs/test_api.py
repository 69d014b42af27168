"""docs/api.md names what the modules export, all of it and nothing else."""

import importlib
import inspect
import re

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
