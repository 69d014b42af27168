"""A network of two planes and two exits, from its recipe to the engine: trained, calibrated, packed, verified, measured by confidence, drawn."""

import json

import numpy as np
import pytest

import onebit
from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.training import load_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = tmp_path_factory.mktemp("adaptive") / "digits"
    assert main(["train", "digits-adaptive", "--epochs", "5", "--out", str(run)]) == 0
    assert main(["pack", str(run)]) == 0
    return run


def file_of(run):
    return run.with_suffix(".onebit")


def test_heads_are_calibrated_for_each_number_of_planes(folder):
    found = json.loads((folder / "result.json").read_text())["calibration"]
    assert sorted(found) == ["1", "2"]
    for own in found.values():
        assert len(own["temperatures"]) == len(own["thresholds"]) == 3
        assert own["thresholds"][0] < 1
    assert found["2"]["temperatures"][2] == 1.0  # the task has it
    program = onebit.load(file_of(folder), threads=1).program
    exits = [step.attributes["threshold"] for step in program.steps if step.op == "exit"]
    assert exits == found["2"]["thresholds"][:2]


def test_the_file_is_the_network_without_its_early_ends(folder, capsys):
    assert main(["verify", str(file_of(folder)), str(folder)]) == 0


def test_confidence_spends_less_and_says_so(folder, capsys):
    file = str(file_of(folder))
    whole = onebit.evaluate(file, "digits", confidence=1.0, threads=1)
    some = onebit.evaluate(file, "digits", confidence=0.9, threads=1)
    assert whole.spent.relative == 1
    assert some.spent.relative < 0.95
    assert some.accuracy > whole.accuracy - 0.06
    assert main(["evaluate", file, "--data", "digits", "--confidence", "0.9", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "of the whole network's" in said
    assert "end at exit 1 with 2 planes" in said
    assert main(["evaluate", file, "--data", "digits", "--confidence", "0.9", "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spent"]["relative"] == pytest.approx(some.spent.relative)


def test_a_confidence_where_it_has_no_meaning(folder, capsys):
    with pytest.raises(OnebitError, match="--confidence applies to packed files only"):
        onebit.evaluate(folder, confidence=0.9)
    with pytest.raises(OnebitError, match="--confidence applies to classifiers of images"):
        onebit.evaluate("books", "books", confidence=0.9)


def test_the_curve_is_what_confidence_gives(folder):
    from onebit.adaptive_plot import adaptive_curve, adaptive_figure

    found = adaptive_curve(file_of(folder), "digits", threads=1)
    point = next(p for p in found.points if p.confidence == 0.7)
    measured = onebit.evaluate(file_of(folder), "digits", confidence=0.7, threads=1)
    assert point.accuracy == pytest.approx(measured.accuracy)
    assert point.spent == measured.spent
    assert [planes for planes, _, _ in found.ends] == [1, 2]
    assert found.ends[1][1] == pytest.approx(2 * found.ends[0][1])
    assert [planes for planes, _ in found.lines] == [1, 2]
    figure = adaptive_figure(found)
    assert len(figure.axes) == 2


def test_the_command_draws_it(folder, tmp_path, capsys):
    picture = tmp_path / "a.png"
    assert main(["plot", "adaptive", str(file_of(folder)), "digits", "--out", str(picture)]) == 0
    assert picture.stat().st_size > 10_000
    assert main(["plot", "adaptive", str(file_of(folder))]) != 0
    assert "adaptive needs images to measure on" in capsys.readouterr().err


def test_a_damaged_calibration_is_named(folder, tmp_path):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    values = json.loads((copy / "result.json").read_text())
    values["calibration"]["1"]["thresholds"] = [0.5, -1, 1]
    (copy / "result.json").write_text(json.dumps(values))
    with pytest.raises(OnebitError, match=r"result.json\] calibration: damaged"):
        load_run(copy)


def test_thresholds_keep_the_accuracy():
    from onebit.early_exits import calibrated_thresholds, first_exits

    rng = np.random.default_rng(0)
    sure = rng.uniform(0.3, 1, (500, 3))
    right = rng.uniform(size=(500, 3)) < sure
    thresholds = calibrated_thresholds(sure, right)
    places = first_exits(sure, np.array(thresholds))
    assert thresholds[-1] == 1
    assert places.mean() < 2
    assert right[np.arange(500), places].mean() >= right[:, -1].mean()
    assert calibrated_thresholds(sure[:0], right[:0]) == [1.0, 1.0, 1.0]
    never = np.zeros_like(right)
    never[:, -1] = True  # only the end is ever right
    assert calibrated_thresholds(sure, never) == [1.0, 1.0, 1.0]
