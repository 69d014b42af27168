"""Recordings in folders or made on the spot, as log-mel spectra with their classes, divided so that whole speakers can be kept out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.data.arrays import ArraySet, ArraySplits, divide
from onebit.data.load import TEST_SHARE
from onebit.data.spoken import NAMES, Recording, tones, words
from onebit.errors import DataError
from onebit.paths import expand
from onebit.progress import track
from onebit.sound import SUFFIXES, LogMel, log_mel, one_window, read_wav, resample
from onebit.walk import walk

# How recordings in one folder are named unless told otherwise, as those of the free spoken digit set are.
FILE_NAMES = "{label}_{speaker}_{take}"
# The list of Speech Commands that names its test part.
TEST_LIST = "testing_list.txt"
# Spectra that are computed at once.
_AT_ONCE = 64


@dataclass(frozen=True)
class Sounds:
    """Spectra of recordings, all of a source.

    Args:
        spectra: float32 (n, frames, bands, 1).
        labels, speakers, takes: of each recording; those that are not known are empty.
        listed: whether each is in the source's own list of its test part.
        notes: what a user should know.
    """

    spectra: NDArray[np.float32]
    labels: tuple[str, ...]
    speakers: tuple[str, ...]
    takes: tuple[str, ...]
    listed: tuple[bool, ...]
    notes: tuple[str, ...] = ()


def spectrum_of(samples: NDArray[np.float32], rate: int, how: LogMel) -> NDArray[np.float32]:
    """The log-mel spectrum of a recording of any length and rate, float32 (frames, bands, 1)."""
    return log_mel(one_window(resample(samples, rate, how.sample_rate), how.samples), how)[..., None]


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Whether nothing is heard."""
    return bool((samples == samples[0]).all())


def read_sounds(data: str, how: LogMel, file_names: str = "") -> Sounds:
    """Read all recordings of a source.

    Args:
        data: ``"tones"`` or ``"words"``, or a folder: with one folder of WAV files for each class, or with files whose names tell their class.
        how: the parameters of the spectra.
        file_names: how the names of files are made, without their suffix, of ``{label}``, ``{speaker}`` and ``{take}``. Empty: files in folders of
            classes have no speakers, and others are named as `FILE_NAMES` says.

    Raises:
        DataError: a recording does not decode, a name does not fit, or there are no recordings.
    """
    if data in NAMES:
        made = list(tones() if data == "tones" else words())
        return _sounds([(one, one.label, one.speaker, "", False) for one in made], how, ())
    folder = expand(data)
    if not folder.is_dir():
        what = (
            "is a file: give a folder"
            if folder.exists()
            else f"there is no such folder: give one, or {' or '.join(NAMES)}"
        )
        raise DataError(f"[{data}] {what}")
    files = [path for path in walk(folder).files if path.suffix.lower() in SUFFIXES]
    if not files:
        raise DataError(f"[{data}] has no WAV files: give a folder with one folder of recordings for each class")
    while len({path.relative_to(folder).parts[0] for path in files}) == 1 and files[0].parent != folder:
        folder /= files[0].relative_to(folder).parts[0]  # an archive often holds one folder
    flat = any(path.parent == folder for path in files)
    pattern = _pattern(file_names or (FILE_NAMES if flat else ""), needs_label=flat)
    listed = _listed(folder)
    notes: list[str] = []
    found = []
    for path in files:
        place = path.relative_to(folder)
        if not flat and place.parts[0].startswith("_"):
            continue  # such as _background_noise_
        fields = _fields(path.stem, pattern, place)
        label = fields.get("label", "") if flat else place.parts[0]
        found.append((path, label, fields.get("speaker", ""), fields.get("take", ""), place.as_posix() in listed))
    left = len(files) - len(found)
    if left:
        notes.append(f"{data}: left out {left} recordings in folders whose names begin with _")
    return _sounds(found, how, notes)


def _sounds(found: Sequence[tuple[Path | Recording, str, str, str, bool]], how: LogMel, notes: Iterable[str]) -> Sounds:
    spectra, kept, silent, windows = [], [], 0, []
    for one in track(found, "read", "recordings"):
        source = one[0]
        samples, rate = (source.samples, source.rate) if isinstance(source, Recording) else read_wav(source)
        if is_silent(samples):
            silent += 1
            continue
        windows.append(one_window(resample(samples, rate, how.sample_rate), how.samples))
        kept.append(one[1:])
        if len(windows) == _AT_ONCE:
            spectra.append(log_mel(np.stack(windows), how))
            windows = []
    if windows:
        spectra.append(log_mel(np.stack(windows), how))
    if not kept:
        raise DataError("[sound] all recordings are silent: record them again")
    told = [f"{silent} silent recordings are left out"] if silent else []
    labels, speakers, takes, listed = zip(*kept, strict=True)
    return Sounds(np.concatenate(spectra)[..., None], labels, speakers, takes, listed, (*notes, *told))


def load_sounds(
    data: str,
    how: LogMel,
    file_names: str = "",
    test_speakers: Sequence[str] | None = None,
    test_takes: Sequence[str] = (),
    validation_share: float = 0.0,
    seed: int = 0,
) -> tuple[ArraySplits, tuple[str, ...], tuple[str, ...]]:
    """Load recordings to train on.

    Args:
        data, how, file_names: see `read_sounds`.
        test_speakers: those that are kept out of training. None: a fifth of them, where there are three or more; empty: none, so that a
            fifth of the recordings of each class is kept out.
        test_takes: takes that are kept out instead, such as 0 to 4 of the free spoken digit set, which is its published test part.
        validation_share: the share of the training recordings that chooses the best epoch; 0: the test part serves for it.
        seed: of the divisions.

    Returns:
        The splits, the classes, and the speakers that are kept out.

    Raises:
        DataError: the data cannot be used, or a speaker or a take is not there.
    """
    sounds = read_sounds(data, how, file_names)
    classes = tuple(sorted(set(sounds.labels)))
    if len(classes) < 2:
        raise DataError(f"[{data}] has one class, {classes[0]!r}: needs two or more")
    kept_out = tuple(test_speakers or ())
    known = sorted(set(sounds.speakers) - {""})
    if test_speakers is None and not test_takes and not any(sounds.listed) and len(known) >= 3:
        names = list(np.random.default_rng(seed).permutation(known))
        kept_out = tuple(sorted(str(name) for name in names[: max(1, round(TEST_SHARE * len(known)))]))
    for what, wanted, there in (("speaker", kept_out, known), ("take", test_takes, sorted(set(sounds.takes) - {""}))):
        lacking = [name for name in wanted if name not in there]
        if lacking:
            rest = f"it has {', '.join(there[:20])}" if there else "file_names does not say where names have it"
            raise DataError(f"[{data}] has no {what} {lacking[0]!r}: {rest}")
    splits = divided(sounds, data, classes, kept_out, test_takes, seed)
    if validation_share > 0:
        stay, share = divide(splits.train.targets.tolist(), validation_share, seed + 1)
        splits = replace(splits, train=splits.train.take(stay), validation=splits.train.take(share))
    lacking = [name for i, name in enumerate(classes) if not (splits.train.targets == i).any()]
    if lacking:
        raise DataError(f"[{data}] has no recording of {lacking[0]!r} to train on: keep fewer out")
    return splits, classes, kept_out


def divided(
    sounds: Sounds,
    data: str,
    classes: Sequence[str],
    test_speakers: Sequence[str],
    test_takes: Sequence[str],
    seed: int,
) -> ArraySplits:
    """Recordings divided into training and test, with classes in a network's order; raises DataError where the network does not know one."""
    unknown = sorted(set(sounds.labels) - set(classes))
    if unknown:
        raise DataError(
            f"[{data}] has classes that the network does not know: {', '.join(unknown)}; it knows {', '.join(classes)}"
        )
    positions = {name: i for i, name in enumerate(classes)}
    targets = np.array([positions[name] for name in sounds.labels], np.int64)
    known = any(sounds.speakers)
    every = ArraySet(sounds.spectra, targets, groups=sounds.speakers if known else None)
    if any(sounds.listed):
        test = np.array(sounds.listed)
    elif test_speakers or test_takes:
        test = np.isin(sounds.speakers, list(test_speakers)) | np.isin(sounds.takes, list(test_takes))
    else:
        test = np.zeros(len(targets), bool)
        test[divide(list(sounds.labels), TEST_SHARE, seed)[1]] = True
    train, held = every.take(np.flatnonzero(~test)), every.take(np.flatnonzero(test))
    if not len(held) and not (test_speakers or test_takes):
        raise DataError(f"[{data}] has too few recordings of each class to set a fifth aside: give more")
    return ArraySplits(train, held, held, data, sounds.notes, any(sounds.listed))


def _listed(folder: Path) -> set[str]:
    file = folder / TEST_LIST
    if not file.is_file():
        return set()
    return {line.strip() for line in file.read_text("utf-8", "replace").splitlines()}


def _pattern(file_names: str, needs_label: bool) -> re.Pattern[str] | None:
    if not file_names:
        return None
    parts = re.split(r"\{(\w*)\}", file_names)
    fields = Counter(parts[1::2])
    if set(fields) - {"label", "speaker", "take"} or max(fields.values(), default=0) > 1:
        raise DataError(f"[sound] file_names={file_names!r}: use {{label}}, {{speaker}} and {{take}}, each once")
    if needs_label and "label" not in fields:
        raise DataError(f"[sound] file_names={file_names!r} has no {{label}}: needs it for files in one folder")
    text = re.escape(parts[0])
    for name, after in zip(parts[1::2], parts[2::2], strict=True):
        # A field ends where the text after it begins, so that matching takes one pass.
        text += f"(?P<{name}>[^{re.escape(after[0])}]+)" if after else f"(?P<{name}>.+)"
        text += re.escape(after)
    return re.compile(text)


def _fields(stem: str, pattern: re.Pattern[str] | None, place: Path) -> dict[str, str]:
    if pattern is None:
        return {}
    found = pattern.fullmatch(stem)
    if found is None:
        raise DataError(f"[{place}] its name does not tell its class or speaker: rename it, or give file_names")
    fields = found.groupdict()
    if fields.get("take", "").isdecimal():
        fields["take"] = str(int(fields["take"]))
    return fields
