"""Folders of recordings: which classes, speakers and parts they give, and a line for each fault."""

import numpy as np
import pytest

from onebit.data.sound import load_sounds, read_sounds
from onebit.errors import DataError
from onebit.sound import LogMel, write_wav

HOW = LogMel(samples=1600)


def record(path, hz=440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, 0.5 * np.sin(hz * np.arange(800) / 1000), 8000)


@pytest.fixture
def flat(tmp_path):
    for word in ("no", "yes"):
        for speaker in ("ann", "bob", "cem", "dee"):
            for take in range(5):
                record(tmp_path / f"{word}_{speaker}_{take}.wav")
    return tmp_path


def test_names_tell_class_speaker_and_take(flat):
    sounds = read_sounds(str(flat), HOW)
    assert sounds.spectra.shape == (40, HOW.frames, 40, 1)
    assert set(sounds.labels) == {"no", "yes"}
    assert set(sounds.speakers) == {"ann", "bob", "cem", "dee"}
    assert set(sounds.takes) == set("01234")


def test_whole_speakers_are_kept_out(flat):
    splits, classes, kept_out = load_sounds(str(flat), HOW, validation_share=0.1)
    assert classes == ("no", "yes")
    assert len(kept_out) == 1
    assert set(splits.test.groups) == set(kept_out)
    assert not set(kept_out) & {*splits.train.groups, *splits.validation.groups}
    named, _, _ = load_sounds(str(flat), HOW, test_speakers=("ann", "dee"))
    assert set(named.test.groups) == {"ann", "dee"}
    assert len(named.test) == len(named.train) == 20


def test_takes_are_kept_out_instead(flat):
    splits, _, kept_out = load_sounds(str(flat), HOW, test_takes=("0", "1"))
    assert (len(splits.train), len(splits.test), kept_out) == (24, 16, ())
    assert set(splits.test.groups) == {"ann", "bob", "cem", "dee"}


def test_a_folder_for_each_word_with_the_list_of_its_test_part(tmp_path):
    for word in ("no", "yes", "_background_noise_"):
        for i in range(6):
            record(tmp_path / "set" / word / f"s{i}_nohash_0.wav")
    (tmp_path / "set" / "testing_list.txt").write_text("no/s0_nohash_0.wav\nyes/s5_nohash_0.wav\n")
    splits, classes, _ = load_sounds(str(tmp_path), HOW, "{speaker}_nohash_{take}")
    assert classes == ("no", "yes")
    assert splits.own_test
    assert splits.test.groups == ("s0", "s5")
    assert any("names begin with _" in note for note in splits.notes)


def test_silent_recordings_are_left_out(flat):
    write_wav(flat / "no_ann_9.wav", np.zeros(100), 8000)
    splits, _, _ = load_sounds(str(flat), HOW, test_speakers=())
    assert len(splits.train) + len(splits.test) == 40
    assert splits.notes == ("1 silent recordings are left out",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"test_speakers": ("eve",)}, "has no speaker 'eve': it has ann, bob, cem, dee"),
        ({"test_takes": ("7",)}, "has no take '7'"),
        ({"file_names": "{label}-{speaker}"}, "does not tell its class or speaker"),
        ({"file_names": "{speaker}_{take}_x"}, r"has no \{label\}"),
        ({"file_names": "{label}_{who}_{take}"}, "each once"),
        ({"test_speakers": ("ann", "bob", "cem", "dee")}, "to train on: keep fewer out"),
    ],
)
def test_a_line_for_each_fault(flat, given, said):
    with pytest.raises(DataError, match=said):
        load_sounds(str(flat), HOW, **given)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="there is no such folder: give one, or tones or words"):
        load_sounds(str(tmp_path / "none"), HOW)
    with pytest.raises(DataError, match="has no WAV files"):
        load_sounds(str(tmp_path), HOW)
    record(tmp_path / "no_ann_0.wav")
    with pytest.raises(DataError, match="has one class, 'no'"):
        load_sounds(str(tmp_path), HOW)
    (tmp_path / "yes_ann_0.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"yes_ann_0.wav: is not a WAV file"):
        load_sounds(str(tmp_path), HOW)
