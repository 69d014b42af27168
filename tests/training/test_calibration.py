"""The temperature that is fitted when training ends, and its way into the packed file, the figures and the picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import onebit
from onebit.cli.main import main
from onebit.confidence import fit_temperature
from onebit.data import load_images
from onebit.errors import DataError, OnebitError
from onebit.fileformat import load_model
from onebit.runtime import reference
from onebit.training import ImageRecipe, load_run, train

RECIPE = ImageRecipe(
    image_size=(8, 8), channels=1, widths=(12, 16), epochs=8, validation_share=0.2, learning_rate=4e-3, threads=1
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(RECIPE, tmp_path_factory.mktemp("run") / "a", progress=False)


def logits_of(run, images):
    import torch

    from onebit.training.batches import scale_pixels

    with torch.inference_mode():
        return run.model(scale_pixels(images.pixels, run.task)).float().numpy()


def test_it_is_fitted_to_the_images_that_were_set_aside(trained):
    splits = load_images("digits", (8, 8), 1, 0.2, None, RECIPE.run.seed)
    expected = fit_temperature(logits_of(trained, splits.validation), splits.validation.labels)
    assert trained.task.temperature == trained.result()["temperature"] == pytest.approx(expected, rel=1e-4)
    assert trained.task.temperature < 1  # normalised logits are too cautious


def test_confidence_comes_nearer_to_accuracy(trained):
    figures = onebit.evaluate(trained)
    plain = json.loads((trained.path / "result.json").read_text()) | {"temperature": 1.0}
    bare = trained.path.parent / "bare"
    bare.mkdir()
    for entry in trained.path.iterdir():
        if entry.name != "result.json":
            (bare / entry.name).symlink_to(entry)
    (bare / "result.json").write_text(json.dumps(plain))
    without = onebit.evaluate(bare)
    assert figures.calibration_error < without.calibration_error / 2
    assert figures.accuracy == without.accuracy
    assert figures.loss < without.loss
    assert figures.calibration_error == pytest.approx(trained.result()["test_calibration_error"], abs=1e-6)


def test_the_packed_file_divides_its_logits(trained, tmp_path):
    file = tmp_path / "a.onebit"
    onebit.pack(trained.model, file, trained.task, trained.training)
    packed = load_model(file)
    assert (packed.program.steps[-1].op, packed.program.steps[-1].attributes) == (
        "scale",
        {"factor": pytest.approx(1 / trained.task.temperature)},
    )
    pixels = load_images("digits", (8, 8), 1).test.pixels[:32]
    onebit.pack(trained.model, tmp_path / "bare.onebit", replace(trained.task, temperature=1.0))
    bare = load_model(tmp_path / "bare.onebit")
    for precision in ("float32", "int8"):
        ours, theirs = (reference.run(m.program, m.tensors, pixels, precision) for m in (packed, bare))
        np.testing.assert_allclose(ours, theirs / trained.task.temperature, rtol=1e-5, atol=1e-5)
    assert onebit.verify(file, trained).equal


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), True, "2", None, 1e-320, 1e300])
def test_a_temperature_that_divides_nothing_is_refused(temperature):
    with pytest.raises(DataError, match=r"\[ImageTask\] temperature=.*: needs a number above 0"):
        onebit.ImageTask(("a", "b"), (8, 8), temperature=temperature)


def test_networks_of_other_confidence_have_the_same_task(trained):
    assert trained.task == replace(trained.task, temperature=1.0)
    assert "temperature" not in trained.task.to_json()


@pytest.mark.parametrize("keys", [{"calibrate": False}, {"validation_share": 0.0}])
def test_it_can_be_left_out_and_needs_images_of_its_own(tmp_path, keys):
    run = train(RECIPE.override(keys | {"epochs": 1}), tmp_path / "a", progress=False)
    assert run.task.temperature == 1.0


def test_the_papers_recipes_leave_it_out():
    from onebit.training import load_recipe

    for name in ("paper-cifar10", "paper-food101-3x3", "paper-food101-5x5"):
        assert not load_recipe(name).model.calibrate


def test_a_run_of_an_older_onebit_has_none(trained, tmp_path):
    result = trained.result()
    del result["temperature"]
    for entry in trained.path.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "result.json").unlink()
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert load_run(tmp_path).task.temperature == 1.0
    (tmp_path / "result.json").write_text(json.dumps(result | {"temperature": "warm"}))
    with pytest.raises(OnebitError, match=r"temperature='warm': damaged, needs a number above 0"):
        load_run(tmp_path)
    for damaged in ("[]", "{", "", "null"):
        (tmp_path / "result.json").write_text(damaged)
        with pytest.raises(OnebitError, match=r"result.json\] damaged: "):
            load_run(tmp_path)


def test_the_plot_shows_it(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "reliability", str(trained.path)]) == 0
    assert capsys.readouterr().out.strip() == "a-reliability.png"
    assert Image.open(tmp_path / "a-reliability.png").size[0] > 400


def test_a_language_model_has_no_such_plot(tmp_path, capsys):
    from onebit.evaluation import TextFigures
    from onebit.reliability_plot import reliability_figure

    figures = TextFigures("books", "int8", "a.txt", 1.0, 2.7, 0.5, 1.5, 10, "words", 8, 0.1)
    with pytest.raises(OnebitError, match=r"\[plot\] books is a language model: give a classifier of images"):
        reliability_figure(figures)


def test_a_temperature_of_numpy_is_a_number():
    task = onebit.ImageTask(("a", "b"), (8, 8), temperature=np.float32(2.5))
    assert type(task.temperature) is float and task.temperature == 2.5
