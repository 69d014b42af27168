"""Networks of measurements from the data to the packed file: classes and numbers, their figures, sessions and pictures."""

import json

import numpy as np
import pytest
import torch

import onebit
from onebit.data.vibration import vibrations
from onebit.errors import DataError, FormatError, OnebitError, RecipeError
from onebit.models import series_network
from onebit.regression_metrics import NumberMetrics
from onebit.schemes import BinaryNet, BinaryWeightNetwork
from onebit.tasks.series import SeriesClassification, SeriesRegression
from onebit.training import load_recipe, train

QUICK = {"epochs": 3, "widths": [16, 16], "validation_share": 0.0, "precision": "float32", "length": 64}


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    run = train(load_recipe("series").override(QUICK), folder / "run", progress=False)
    onebit.pack(run.model, folder / "a.onebit", run.task, run.training)
    return run, folder / "a.onebit"


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    recipe = load_recipe("series").override({**QUICK, "task": "regression", "validation_share": 0.2})
    run = train(recipe, folder / "run", progress=False)
    onebit.pack(run.model, folder / "a.onebit", run.task, run.training)
    return run, folder / "a.onebit"


@pytest.fixture
def recording(tmp_path):
    one = next(one for one in vibrations(1) if one.condition == "unbalance")
    lines = ["time,z,y,x", *(f"{i},{z},{y},{x}" for i, (x, y, z) in enumerate(one.numbers.tolist()))]
    (tmp_path / "one.csv").write_text("\n".join(lines))
    return one, tmp_path / "one.csv"


def test_classes_are_learned_packed_and_verified(classes):
    run, file = classes
    assert run.result()["test_accuracy"] > 0.8
    assert onebit.verify(file, run).equal
    trained, packed = onebit.evaluate(run), onebit.evaluate(file, "vibration")
    assert trained.count == packed.count == run.result()["test_inputs"]
    assert trained.figures["accuracy"] == run.result()["test_accuracy"]
    assert abs(trained.figures["accuracy"] - packed.figures["accuracy"]) < 0.02
    assert packed.part == "test"
    assert "on 300 test windows" not in str(packed) and "test windows" in str(packed)


def test_numbers_are_learned_packed_and_verified(numbers):
    run, file = numbers
    result = run.result()
    assert result["test_r2"] > 0.5
    assert onebit.verify(file, run).equal
    figures = onebit.evaluate(file, "vibration").figures
    assert figures["r2"] == pytest.approx(result["test_r2"], abs=0.02)
    assert "mean absolute error" in str(run) and "R2" in str(run)
    assert "val_mean_absolute_error" in run.curves()[0]


def test_a_session_reads_files_and_arrays_alike(classes, recording):
    run, file = classes
    one, path = recording
    session = onebit.load(file, threads=1)
    by_file, by_array = session.classify([path, one.numbers], top=4)
    assert [label for label, _ in by_file] == [label for label, _ in by_array]
    assert by_file[0][0] == "unbalance"
    assert sum(share for _, share in by_file) == pytest.approx(1, abs=1e-5)
    # By hand: scaled windows in PyTorch, the mean of their probabilities.
    x = one.numbers
    cut = torch.tensor(np.stack([x[i : i + 64] for i in range(0, len(x) - 63, 32)]))
    scaled = (cut - torch.tensor(run.task.mean)) / torch.tensor(run.task.std)
    with torch.inference_mode():
        expected = run.model(scaled).div(run.task.temperature).softmax(1).mean(0)
    exact = dict(onebit.load(file, "float32", 1).classify([path])[0])
    assert [exact[label] for label in run.task.labels] == pytest.approx(expected.tolist(), abs=1e-5)
    assert str(session.answer(path, 1)).startswith("unbalance ")
    with pytest.raises(OnebitError, match="this model says classes: use classify"):
        session.predict([path])


def test_a_session_predicts_in_the_unit_of_the_target(numbers, recording):
    _, file = numbers
    one, path = recording
    session = onebit.load(file, threads=1)
    (found,) = session.predict([path])
    assert len(found) == 31
    assert found.mean() == pytest.approx(one.speed, rel=0.3)
    answer = session.answer(path)
    assert answer.to_dict()["mean"] == pytest.approx(found.mean())
    assert "the mean of 31 windows" in str(answer)
    with pytest.raises(OnebitError, match="this model predicts a number: use predict"):
        session.classify([path])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((70, 2), np.float32), r"give numbers \(rows, 3\), the columns x, y, z"),
        (np.zeros((63, 3), np.float32), "has 63 rows: needs a window of 64"),
        (np.full((70, 3), np.nan), "holds NaN or infinity"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(classes, given, words):
    session = onebit.load(classes[1], threads=1)
    with pytest.raises(DataError, match=words):
        session.classify([given])
    with pytest.raises(DataError, match="give a list of recordings, even for one"):
        session.classify(given)


def test_a_file_without_a_column_is_refused(classes, tmp_path):
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match="has no column 'z': it has 'x', 'y'"):
        onebit.load(classes[1], threads=1).classify([tmp_path / "b.csv"])


def test_a_class_that_the_network_does_not_know_is_refused(classes, tmp_path):
    for label in ("normal", "broken"):
        for i in range(6):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{i}.csv").write_text("x,y,z\n" + "1,2,3\n" * 70)
    with pytest.raises(DataError, match="has the class 'broken', which the network does not know"):
        onebit.evaluate(classes[1], str(tmp_path))


@pytest.mark.parametrize("which", ["classes", "numbers"])
def test_predictions_are_drawn(which, request, recording, tmp_path):
    from onebit.figures import save
    from onebit.kinds.measuring import predictions_figure

    run, file = request.getfixturevalue(which)
    save(predictions_figure(run.path), tmp_path / "a.png")
    figure = predictions_figure(file, str(recording[1]))
    save(figure, tmp_path / "b.png")
    assert len([axis for axis in figure.axes if axis.lines]) == 8
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize("scheme", [None, BinaryWeightNetwork(), BinaryNet()])
def test_the_network_packs_in_every_form(scheme):
    from onebit.packing import to_packed_model
    from onebit.runtime import reference

    torch.manual_seed(0)
    model = series_network(2, 3, 16, (6, 5), 3, scheme=scheme, hybrid=scheme is None or scheme.activations is None)
    model(torch.randn(8, 16, 2))
    task = SeriesClassification(("x", "y"), 16, 8, (0.1, 0.2), (2.0, 3.0), labels=("a", "b", "c"))
    packed = to_packed_model(model.eval(), task)
    x = np.random.default_rng(0).standard_normal((4, 16, 2)).astype(np.float32)
    y = reference.run(packed.program, packed.tensors, x, "float32")
    with torch.inference_mode():
        expected = model((torch.tensor(x) - torch.tensor([0.1, 0.2])) / torch.tensor([2.0, 3.0])).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kernel_size": 4}, "kernel_size=4: use an odd one"),
        ({"length": 4}, "a window of 4 rows is too short for 3 poolings: use --length 8 or more"),
        ({"model": "lstm"}, "model='lstm': use conv1d"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(keys, words, tmp_path):
    with pytest.raises(RecipeError, match=words):
        train(load_recipe("series").override(keys), tmp_path / "run", progress=False)


def test_figures_of_numbers_by_hand():
    metrics = NumberMetrics(lambda outputs: outputs[:, 0] * 2 + 1)
    metrics.add(np.array([[0.0], [1.0]], np.float32), [2.0, 3.0])
    metrics.add(np.array([[2.0]], np.float32), [2.0])
    errors = np.array([1 - 2, 3 - 3, 5 - 2])
    figures = metrics.figures()
    assert figures["mean_absolute_error"] == pytest.approx(np.abs(errors).mean())
    assert figures["root_mean_square_error"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert figures["r2"] == pytest.approx(1 - (errors**2).sum() / ((np.array([2, 3, 2]) - 7 / 3) ** 2).sum())


GOOD = SeriesClassification(("x", "y"), 8, 4, (0.0, 0.0), (1.0, 1.0), "kind", labels=("a", "b")).to_json()


def test_a_task_is_the_same_after_json():
    assert SeriesClassification.from_json(json.loads(json.dumps(GOOD))).to_json() == GOOD
    other = SeriesRegression(("x",), 8, 4, (0.0,), (1.0,), target_mean=2.0, target_std=3.0)
    assert SeriesRegression.from_json(json.loads(json.dumps(other.to_json()))) == other


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": []}, "columns=.*needs a list of names"),
        ({"columns": ["x", "x"]}, "names 'x' more than once"),
        ({"length": 0}, "length=0: needs an integer from 1"),
        ({"stride": True}, "stride=true|stride=True"),
        ({"mean": [0.0]}, "mean=.*for each of 2 columns"),
        ({"std": [1.0, 0.0]}, "std=.*above 0 for each of 2 columns"),
        ({"labels": []}, "has no labels"),
        ({"labels": "ab"}, "labels=.*needs a list of texts"),
        ({"target": 3}, "target=3: needs a text"),
    ],
)
def test_a_damaged_task_is_refused(change, words):
    with pytest.raises(FormatError, match=words):
        SeriesClassification.from_json({**GOOD, **change})
