"""Loading and running a packed model from Python."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import onebit
from onebit.errors import DataError, FormatError, OnebitError
from onebit.fileformat import PackedModel
from onebit.models import conv_classifier
from onebit.packing import pack, to_packed_model
from onebit.runtime import ImageSession, load_image_session, load_text_session, reference
from onebit.runtime.verify import compare

TASK = onebit.ImageTask(("ant", "bee", "cow"), (12, 10))
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3), np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("packed") / "a.onebit"
    pack(conv_classifier(3, 3, (16, 24)), path, TASK)
    return path


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_logits_are_the_references(path, precision):
    session = onebit.load(path, precision, threads=2)
    model = onebit.fileformat.load_model(path)
    expected = reference.run(model.program, model.tensors, PIXELS, precision)
    # Where an activation lies between two levels, the last bit of a float sum decides, and one level is passed on through the layers.
    tolerance = 0.1 if precision == "int8" else 1e-3
    np.testing.assert_allclose(session(PIXELS), expected, atol=tolerance)
    np.testing.assert_allclose(session((PIXELS / 255).astype(np.float32)), expected, atol=tolerance)
    assert (session.precision, session.threads) == (precision, 2)
    assert session.memory_bytes > 0


def test_loading_imports_neither_a_command_line_nor_training(path):
    script = f"import sys, onebit; onebit.load({str(path)!r}); print({{'argparse', 'gettext', 'torch', 'PIL'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_classify_takes_arrays_of_any_size(path):
    session = onebit.load(path)
    (answers,) = session.classify([np.zeros((40, 30, 3), np.uint8)], top=2)
    assert len(answers) == 2
    assert answers[0][1] >= answers[1][1]
    logits = session(PIXELS[:1])[0]
    (all_answers,) = session.classify([PIXELS[0]], top=9)
    assert [label for label, _ in all_answers] == [TASK.labels[i] for i in np.argsort(-logits)]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (PIXELS[0], r"a batch of shape \(12, 10, 3\): give \(n, 12, 10, 3\)"),
        (PIXELS[:, :, :5], "give"),
        (PIXELS.astype(np.float64), "a batch of float64"),
        ([[1]], "a batch of list"),
        (PIXELS.astype(np.float32), r"a batch of float32 from 0 to 255: give uint8 \(0 to 255\), or divide by 255"),
        (np.full((1, 12, 10, 3), np.nan, np.float32), "a batch of float32 from nan to nan"),
    ],
)
def test_batches_that_do_not_fit_are_named(path, batch, message):
    with pytest.raises(DataError, match=message):
        onebit.load(path)(batch)


def test_wrong_arguments_are_named(path):
    with pytest.raises(OnebitError, match="precision='int4': use 'int8' or 'float32'"):
        onebit.load(path, "int4")
    with pytest.raises(OnebitError, match="threads=0"):
        onebit.load(path, threads=0)
    with pytest.raises(OnebitError, match="more than the 1000 that are allowed: raise memory_cap"):
        onebit.load(path, memory_cap=1000)
    with pytest.raises(OnebitError, match="memory_cap=0"):
        onebit.load(path, memory_cap=0)
    assert onebit.load(path, threads=2, pin_threads=True)(PIXELS).shape == (4, 3)
    with pytest.raises(OnebitError, match="isa='sse9' is unknown"):
        onebit.load(path, isa="sse9")
    with pytest.raises(OnebitError, match="cache='int8': this model is not a language model"):
        onebit.load(path, cache="int8")
    with pytest.raises(DataError, match="give a list of images"):
        onebit.load(path).classify("a.png")


def test_a_task_that_does_not_fit_its_program_is_refused():
    model = to_packed_model(conv_classifier(3, 3, (4,)), TASK)
    with pytest.raises(FormatError, match="names 1 labels and images of"):
        PackedModel(model.program, model.tensors, model.task | {"labels": ["ant"]})


def test_differences():
    base = np.array([[1.0, 2.0], [4.0, 3.0]], np.float32)
    other = np.array([[1.0, 2.0], [2.0, 3.0]], np.float32)
    difference = compare(other, base)
    assert (difference.relative, difference.changed, difference.compared) == (0.5, 1, 2)
    assert difference.changed_share == 0.5
    assert compare(base, base).relative == 0
    assert compare(np.full_like(base, np.nan), base).relative == np.inf
    one = base.copy()
    one[0] *= 1.01
    assert (compare(one, base).beyond, compare(base, base).beyond) == (1, 0)


def test_the_plan_tells_what_runs(path):
    session = onebit.load(path, threads=1)
    plan = session.plan()
    assert any(step["step"].startswith("bit_conv2d + normalize + relu") and step["kernel"] for step in plan)
    assert all(step["offset"] % 64 == 0 and step["offset"] + step["bytes"] <= session.arena_bytes for step in plan)
    assert plan[-1]["shape"] == [3]
    # Half of the values could not lie side by side: their memory is used again.
    assert session.arena_bytes < sum(step["bytes"] for step in plan) + 4 * 12 * 10 * 3
    with pytest.warns(DeprecationWarning, match="always true"):
        assert session.shareable


def test_sessions_run_at_once_in_several_threads(path):
    sessions = [onebit.load(path, threads=2) for _ in range(3)]
    expected = sessions[0](PIXELS)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: sessions[i % 3](PIXELS), range(60)))
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_a_network_of_images_has_the_methods_of_images_only(path):
    session = onebit.load(path)
    assert type(session) is type(load_image_session(path, threads=1)) is ImageSession
    assert not {"generate", "generate_batch", "score", "logits"} & set(dir(session))
    with pytest.raises(OnebitError, match="this model is not a language model: use classify"):
        load_text_session(path)


@pytest.mark.parametrize("key", ["precision", "isa", "pin_threads"])
@pytest.mark.parametrize("value", [1, 1.5, [], {}, np.zeros(2), "\ud800"], ids=str)
def test_an_argument_of_another_type_is_refused_in_one_line(path, key, value):
    with pytest.raises(OnebitError, match=rf"^\[load\] {key}=[^\n]*$"):
        onebit.load(path, **{key: value})
