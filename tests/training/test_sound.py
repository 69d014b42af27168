"""A classifier of sounds from the recipe to the packed file: the same answers, and what a user may do wrong."""

import json

import numpy as np
import pytest

import onebit
from onebit.cli.main import main
from onebit.data.spoken import tones
from onebit.errors import DataError, FormatError
from onebit.runtime.sound import SoundSession, features
from onebit.sound import log_mel, one_window, write_wav
from onebit.tasks.sound import SoundTask
from onebit.training.jobs.sound import masked, noisy, shifted

KEYS = {"epochs": 2, "width": 8, "blocks": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return onebit.train("keywords", tmp_path_factory.mktemp("sound") / "run", progress=False, **KEYS)


@pytest.fixture(scope="module")
def file(run):
    onebit.pack(run.model, run.path / "m.onebit", run.task, run.training)
    return run.path / "m.onebit"


@pytest.fixture(scope="module")
def recording():
    return next(iter(tones()))


def test_the_packed_file_gives_the_outputs_of_the_run(run, file):
    found = onebit.verify(file, run.path, limit=16, threads=1)
    assert found.equal, found
    assert onebit.info(file).task["kind"] == "audio-classification"


def test_what_was_kept_out_is_measured_in_the_run_and_in_the_file(run, file):
    ours, packed = onebit.evaluate(run), onebit.evaluate(file, "tones", precision="float32")
    assert ours.part == packed.part == "test"
    assert ours.count == packed.count == run.result()["test_inputs"] == 60
    assert ours.figures["accuracy"] == pytest.approx(packed.figures["accuracy"])
    assert ours.figures["accuracy"] == pytest.approx(run.result()["test_accuracy"])
    assert list(ours.figures["groups"]) == list(run.task.test_speakers)
    assert "by speaker" in str(ours)
    json.dumps(packed.to_dict())


def test_a_path_samples_and_a_spectrum_give_the_same_answer(file, recording, tmp_path):
    session = onebit.load(file, threads=1)
    assert isinstance(session, SoundSession)
    write_wav(tmp_path / "a.wav", recording.samples, recording.rate)
    from_path = session.classify(str(tmp_path / "a.wav"), top=6)
    from_samples = session.classify(recording.samples, recording.rate, top=6)
    assert sum(p for _, p in from_path) == pytest.approx(1, abs=1e-5)
    assert dict(from_path) == pytest.approx(dict(from_samples), abs=0.02)
    spectrum = log_mel(one_window(recording.samples, 16000), features(session.task))[..., None]
    np.testing.assert_array_equal(session.spectrum(recording.samples), spectrum)


@pytest.mark.parametrize(
    ("recording", "rate", "said"),
    [
        (np.zeros(100, np.float32), None, "is silent"),
        (np.zeros(0, np.float32), None, "is empty"),
        (np.float32([0, np.inf]), None, "not numbers"),
        (np.zeros((2, 100), np.float32), None, r"float32 \(2, 100\): give a path"),
        (np.zeros(100, np.int16), None, "int16"),
        ([0.0], None, "list: give a path"),
        (np.ones(100, np.float32), 10, "rate=10: needs an integer from 1000"),
        ("a.wav", 16000, "leave it out"),
        ("none.wav", None, "no such file"),
    ],
)
def test_recordings_that_cannot_be_used(file, recording, rate, said):
    with pytest.raises(DataError, match=said):
        onebit.load(file, threads=1).classify(recording, rate)


def test_the_command_answers_each_file_and_draws(run, file, recording, tmp_path, capsys):
    write_wav(tmp_path / "a.wav", recording.samples, recording.rate)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    assert main(["classify", str(file), str(tmp_path / "a.wav"), str(tmp_path / "b.wav"), "--json"]) == 1
    out, err = capsys.readouterr()
    (answer,) = json.loads(out)
    assert len(answer["labels"]) == 5
    assert "b.wav: is not a WAV file" in err
    assert main(["summary", str(run.path)]) == 0
    capsys.readouterr()
    for words in ([str(run.path)], [str(file), "tones"], [str(file), str(tmp_path / "a.wav")]):
        assert main(["plot", "predictions", *words, "--out", str(tmp_path / "p.png")]) == 0
        assert (tmp_path / "p.png").stat().st_size > 10_000
    assert main(["plot", "predictions", str(file), "--out", str(tmp_path / "p.png")]) == 1
    assert "name the data, or a file" in capsys.readouterr().err
    assert main(["evaluate", str(file), "--data", str(tmp_path / "none")]) == 1
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ["a", "a"]}, "more than once"),
        ({"frame": 0}, "frame=0"),
        ({"samples": 1 << 30}, "samples=1073741824"),
        ({"frame": 800, "samples": 400}, "frame=800"),
        ({"high_hz": 9000.0}, "below half of sample_rate"),
        ({"std": 0.0}, "std=0.0"),
        ({"floor": None}, "floor=None"),
        ({"test_speakers": [1]}, "a name is not a text"),
        ({"file_names": 3}, "file_names=3"),
    ],
)
def test_a_task_that_is_damaged(changes, said):
    values = json.loads(json.dumps(SoundTask(("a", "b")).to_json()))
    assert SoundTask.from_json(values) == SoundTask(("a", "b"))
    with pytest.raises(FormatError, match=said):
        SoundTask.from_json(values | changes)


def test_a_program_that_the_task_does_not_fit():
    task = SoundTask(("a", "b"))
    assert task.fit_fault((98, 40, 1), (2,), False) is None
    assert "takes [98, 41, 1]" in task.fit_fault((98, 41, 1), (2,), False)
    assert "gives [3]" in task.fit_fault((98, 40, 1), (3,), False)


def test_what_training_changes():
    spectra = np.arange(2 * 10 * 4, dtype=np.float32).reshape(2, 10, 4, 1)
    moved = shifted(spectra, 2, 1, np.random.default_rng(3))
    for before, after in zip(spectra[..., 0], moved[..., 0], strict=True):
        wanted = [before[np.clip(np.arange(10) + move, 0, 9)] for move in range(-2, 3)]
        assert any((after == one).all() for one in wanted)
    hidden = masked(np.zeros((50, 20, 10, 1), np.float32), 7, np.random.default_rng(0))
    assert set(np.unique(hidden)) == {0, 7}
    assert 0.05 < (hidden == 7).mean() < 0.35
    louder = noisy(spectra, np.random.default_rng(0))
    assert (louder >= spectra - 1e-4).all()
    assert louder.dtype == np.float32
