"""A recipe's key is on a short way from the command's flag to the network that it is for: few files, and few entries into them."""

import ast
import sys
from pathlib import Path

import pytest

import onebit
from onebit.cli.recipe_keys import parse_keys
from onebit.images import ImageTask
from onebit.text import TextTask
from onebit.training.jobs import build_model
from onebit.training.recipe import ImageRecipe, TextRecipe, load_recipe, short_names

SOURCE = Path(onebit.__file__).parent
PIXELS = ImageTask(("a", "b"), (16, 16), 1)
WORDS = TextTask(("[PAD]", "[UNK]", "[SEP]", "a", "b"), "words")
MOST_FILES, MOST_ENTRIES = 8, 15


class Way:
    """The functions of the package that hold a value, in the order in which they are called."""

    def __init__(self, *values):
        self.values = values
        self.calls = []
        self._open = []

    def __call__(self, frame, event, _):
        if event == "call":
            self._open.append(len(self.calls))
            self.calls.append([frame.f_code, self._holds(frame)])
        elif event == "return" and self._open:
            call = self.calls[self._open.pop()]
            call[1] = call[1] or self._holds(frame)

    def _holds(self, frame):
        return any(self._is(value) for value in frame.f_locals.values())

    def _is(self, held):
        inner = held.values() if type(held) is dict else held if type(held) in (list, tuple) else ()
        return any(type(one) in (int, float, str) and one in self.values for one in (held, *inner))

    @property
    def files(self):
        """The file of each call that holds the value, where it is another than that of the call before.

        The way ends in the function of `onebit.models` that builds the network: what its layers do with the value is theirs.
        """
        held = [Path(code.co_filename) for code, holds in self.calls if holds]
        ours = [str(file.relative_to(SOURCE)) for file in held if file.is_relative_to(SOURCE)]
        names = [name for name in ours if not name.startswith("nn/")]
        return [name for name, before in zip(names, [None, *names], strict=False) if name != before]


@pytest.mark.parametrize(
    ("name", "words", "task", "values"),
    [
        ("tiny", ["--heads", "13", "--features", "52", "--blocks", "1"], WORDS, (13, "13")),
        ("tiny", ["--model.residual-scale", "0.8125", "--blocks", "1"], WORDS, (0.8125, "0.8125")),
        ("lstm", ["--hidden", "37"], WORDS, (37, "37")),
        ("digits", ["--kernel-size", "7", "--widths", "4"], PIXELS, (7, "7")),
        ("resnet20", ["--model", "resnet8", "--width", "0.4375"], PIXELS, (0.4375, "0.4375")),
    ],
)
def test_the_way_from_the_flag_to_the_network(name, words, task, values):
    recipe = load_recipe(name)
    way = Way(*values)
    sys.setprofile(way)
    try:
        build_model(recipe.override(parse_keys(words)), task)
    finally:
        sys.setprofile(None)
    assert way.files[0] == "cli/recipe_keys.py"
    assert way.files[-1].startswith("models/")
    assert len(set(way.files)) <= MOST_FILES, way.files
    assert len(way.files) <= MOST_ENTRIES, way.files


def names_in(file):
    """What a file reads, passes or asks for by name, documentation apart."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword | ast.arg) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


@pytest.mark.parametrize("recipe", [ImageRecipe, TextRecipe])
def test_a_key_of_the_network_is_named_by_its_job_alone(recipe):
    """A section declares it, a job passes it on; no other file of training or of the command knows it."""
    own = {key.name for key in short_names(recipe).values() if key.section == "model"}
    own -= {
        "name",
        "binary",
        "warm_start",
        "size",
        "features",
        "blocks",
        "context",
        "width",
        "head",
        "hidden",
        "pixels",
    }
    files = [*(SOURCE / "training").glob("*.py"), *(SOURCE / "cli").glob("*.py")]
    assert len(own) > 3
    known = {str(file.relative_to(SOURCE)): own.intersection(names_in(file)) for file in files}
    assert not {file: names for file, names in known.items() if names}
