"""Files of the first version are read correctly by this version.

Each packed file was written by the code of the commit that its test names, with random bits. The arrays beside it are some inputs, and the outputs of
that commit's NumPy reference. The recipes are those that the commits wrote into run folders. None of these files is ever written again: a reader that
no longer gives these outputs no longer reads format 1.
"""

from pathlib import Path

import numpy as np
import pytest
import yaml

import onebit
from onebit.fileformat import load_model, save_model
from onebit.runtime import reference
from onebit.training import load_recipe
from onebit.training.recipe import short_names

FOLDER = Path(__file__).parent
COMMITS = {"images": "5bee598", "decoder": "d5aee05", "lstm": "2a65684", "binary_activations": "2a65684"}
# Keys that have another spelling now, which older recipes may keep.
RENAMED = {"01": "unipolar", "pm1": "bipolar"}
# One level of rounding of an int8 product may go the other way and change what comes after it.
TOLERANCE = {"float32": 1e-4, "int8": 0.1}


@pytest.fixture(params=COMMITS)
def written(request):
    """A packed file, some inputs, and what they gave."""
    return FOLDER / f"{request.param}.onebit", dict(np.load(FOLDER / f"{request.param}.npz"))


def shown(outputs):
    """Of a text every sixth row, which keeps the files small."""
    return outputs[:, ::6] if outputs.ndim == 3 else outputs


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_reference_gives_what_it_gave(written, precision):
    path, arrays = written
    model = load_model(path)
    outputs = shown(reference.run(model.program, model.tensors, arrays["input"], precision))
    assert np.abs(outputs - arrays[precision]).max() < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_engine_gives_what_the_reference_gave(written, precision):
    path, arrays = written
    session = onebit.load(path, precision=precision)
    texts = arrays["input"].ndim == 2
    outputs = shown(
        np.stack([session.logits(tokens) for tokens in arrays["input"]]) if texts else session(arrays["input"])
    )
    assert outputs.std() > 0.5
    assert np.abs(outputs - arrays[precision]).max() < TOLERANCE[precision]


def test_a_file_that_is_written_again_holds_the_same(written, tmp_path):
    path, _ = written
    before = load_model(path)
    save_model(before, tmp_path / "again.onebit")
    after = load_model(tmp_path / "again.onebit")
    assert (after.program, after.task) == (before.program, before.task)
    assert set(after.tensors) == set(before.tensors)
    for name, tensor in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], tensor)


@pytest.mark.parametrize("name", ["cifar10", "tiny", "lstm"])
def test_a_recipe_says_what_it_said(name):
    path = FOLDER / f"{name}.yaml"
    old, recipe = yaml.safe_load(path.read_text()), load_recipe(path)
    new, places = yaml.safe_load(recipe.to_yaml()), short_names(type(recipe))
    assert old.pop("kind", "images") == new["kind"]
    found = {key: new[places[key].section][places[key].name] for key in old}
    assert found == {key: RENAMED.get(str(value), value) for key, value in old.items()}
