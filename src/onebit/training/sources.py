"""Where the data, texts and networks of a recipe lie, and whether they are what they were when a run was trained on them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from onebit.data import series, spoken, text_classes
from onebit.data.digit_scenes import NAME as SCENES
from onebit.data.load import TEST_SHARE, has_test_part
from onebit.data.load_scenes import SCENE_SUFFIXES
from onebit.data.named import HUB_SETS, folder_of
from onebit.data.record import DataRecord, fingerprint_file, fingerprint_files, fingerprint_images, fingerprint_text
from onebit.data.text import WIKITEXT
from onebit.errors import OnebitError, shown
from onebit.paths import expand
from onebit.sound import SUFFIXES
from onebit.training.recipe import Recipe, short_names

# Of a run folder: the fingerprint of each key below that its recipe sets.
FILE = "data.json"
DATA = ("data", "validation_data")
KEYS = (*DATA, "vocabulary", "teacher", "warm_start")


class Images:
    """Where data of images lie: a folder goes before a data set of the same name."""

    names = ("digits", *HUB_SETS)
    drawn = True  # which images are set aside hangs on all of them
    fingerprint = staticmethod(fingerprint_images)
    folder = staticmethod(folder_of)
    has_test_part = staticmethod(has_test_part)

    @staticmethod
    def hides(value: str) -> Path | None:
        """The folder that goes before the data set of that name."""
        return folder_of(value)

    @staticmethod
    def share(recipe: Recipe) -> float:
        """Of the data, what is set aside to measure on."""
        return TEST_SHARE


class Texts:
    """Where texts lie: a data set's name goes before a file."""

    names = ("python", *WIKITEXT)
    drawn = False
    fingerprint = staticmethod(fingerprint_text)
    folder = staticmethod(expand)

    @staticmethod
    def has_test_part(value: str) -> bool:
        """Whether the source has a part of its own to measure on."""
        return False

    @staticmethod
    def hides(value: str) -> Path | None:
        """The folder that goes before the data set of that name."""
        return None

    @staticmethod
    def share(recipe: Recipe) -> float:
        """Of the data, what is set aside to measure on."""
        return float(recipe.flat()["validation_share"])


@dataclass(frozen=True)
class Files:
    """Where data of another kind lie: a folder or a file; the name of a data set goes before a file.

    Args:
        names: data sets that are made on the spot.
        suffixes: of the files that count, in lower case; empty: all.
        drawn: whether what is set aside hangs on all of them.
    """

    names: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    drawn: bool = True

    def fingerprint(self, value: str) -> str | None:
        """What changes when the data do; None where nothing is there."""
        return f"name {value}" if value in self.names else fingerprint_files(value, self.suffixes)

    def folder(self, value: str) -> Path | None:
        """Where the data lie."""
        return None if value in self.names else expand(value)

    def has_test_part(self, value: str) -> bool:
        """Whether next to the data nothing is read; not known here."""
        return False

    def hides(self, value: str) -> Path | None:
        """The folder that goes before the data set of that name."""
        return None

    def share(self, recipe: Recipe) -> float:
        """Of the data, what is set aside to measure on."""
        return TEST_SHARE


# Scenes that are made on the spot, and folders of pictures with boxes or masks.
_SCENES = Files((SCENES,), SCENE_SUFFIXES)
KINDS: dict[str, type[Images] | type[Texts] | Files] = {
    "images": Images,
    "text": Texts,
    "detection": _SCENES,
    "segmentation": _SCENES,
    "text-classes": Files(text_classes.SETS, text_classes.SUFFIXES),
    "sound": Files(spoken.NAMES, SUFFIXES),
    "series": Files(series.SETS, (series.SUFFIX,)),
}


def locate(recipe: Recipe) -> Recipe:
    """The recipe with whole paths of what lies here, so that it means the same from any place; names of data sets stay names."""
    changes: dict[str, Any] = {}
    kind = KINDS[recipe.kind]
    for key, value in _paths(recipe).items():
        named = key in DATA and value in kind.names and kind.hides(value) is None
        if not named and expand(value).exists():
            changes[key] = str(expand(value).resolve())
    return recipe.override(changes)


def fingerprints(recipe: Recipe) -> dict[str, str | None]:
    """Of each path and name that a recipe sets; None where nothing is there."""
    found: dict[str, str | None] = {}
    for key, value in _paths(recipe).items():
        if key in ("teacher", "warm_start"):
            files = [expand(value) / "checkpoints" / f"{which}.ckpt" for which in ("best", "last")]
            found[key] = next((known for file in files if (known := fingerprint_file(file))), None)
        elif key == "vocabulary":
            found[key] = fingerprint_file(expand(value))
        else:
            found[key] = KINDS[recipe.kind].fingerprint(value)
    return found


def read_fingerprints(folder: Path) -> dict[str, str | None] | None:
    """What a run folder tells of its data; None for one that was made before this was kept.

    Raises:
        OnebitError: the file is damaged.
    """
    try:
        values = json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OnebitError(f"[{folder / FILE}] damaged: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(value, str | None) for value in values.values()):
        raise OnebitError(f"[{folder / FILE}] damaged: it is not an object of texts")
    return values


def record_of(recipe: Recipe, known: dict[str, str | None] | None) -> DataRecord | None:
    """What a packed file tells of its training."""
    data = None if known is None else known.get("data")
    if known is None or data is None:
        return None
    return DataRecord(data, known.get("validation_data"), recipe.run.seed, KINDS[recipe.kind].share(recipe))


def check_out(recipe: Recipe, out: Path, where: str = "train") -> None:
    """Refuse a folder within the data that would be read as a class or as texts the next time; raises OnebitError."""
    kind = KINDS[recipe.kind]
    for key, value in _paths(recipe).items():
        if key not in DATA:
            continue
        data = kind.folder(value)
        if data is None or not data.is_dir() or not out.resolve().is_relative_to(data.resolve()):
            continue
        # Next to train/ and test/, and next to IDX files, nothing is read.
        if kind.has_test_part(value):
            continue
        raise OnebitError(
            f"[{where}] {out} would lie within its own data, {data}, and be read with them: give another --out, such as "
            f"{data.resolve().parent / 'runs' / out.name}"
        )


def check_same(old: Recipe, new: Recipe, folder: Path, free: tuple[str, ...], where: str = "train") -> None:
    """A run is gone on with by its own recipe, on its own data, which may lie elsewhere than before.

    Args:
        old: of the run folder.
        new: what is asked for, located.
        folder: of the run.
        free: keys that may differ.
        where: the command, for messages.

    Raises:
        OnebitError: a key is another, or what lies at a path is.
    """
    other = f"give another --out, or the recipe of {folder / 'recipe.yaml'}"
    if type(old) is not type(new):
        raise OnebitError(f"[{where}] {folder} was trained with another recipe, of another kind: {other}")
    here, before = _paths(new), _paths(locate(old))
    if asdict(old.scheme.made) == asdict(new.scheme.made):  # said in other words
        free = (*free, *(name for name, key in short_names(type(old)).items() if key.section == "scheme"))
    elif old.scheme.options != new.scheme.options:
        _differ("scheme", old.scheme.to_dict(), new.scheme.to_dict(), folder, where)
    now = new.flat()
    for name, then in old.flat().items():
        if then != now[name] and name not in free and not (name in here and name in before):
            _differ(name, then, now[name], folder, where)
    known, found = read_fingerprints(folder), fingerprints(new)
    for key, value in here.items():
        moved = value != before[key]
        # What a run has started from is not looked at again.
        if known is None or (key == "warm_start" and not moved):
            if moved:
                raise OnebitError(
                    f"[{where}] {folder} was trained with another recipe: {key}={before[key]}, and not {value}: {other}"
                )
        elif found[key] is None:
            raise OnebitError(
                f"[{where}] {folder} was trained with {key}={before[key]}, and {value} is not there: give --{key.replace('_', '-')} PATH"
            )
        elif known.get(key) != found[key]:
            what = f"{value} is another" if moved else "that has changed since"
            raise OnebitError(
                f"[{where}] {folder} was trained with {key}={before[key]}, and {what}: give the same, or another --out"
            )


def _differ(name: str, then: Any, now: Any, folder: Path, where: str) -> NoReturn:
    raise OnebitError(
        f"[{where}] {folder} was trained with another recipe: {name}={shown(then)}, and not {shown(now)}: "
        f"give another --out, or the recipe of {folder / 'recipe.yaml'}"
    )


def check_own_data(recipe: Recipe, known: dict[str, str | None] | None, folder: Path) -> list[str]:
    """Look at what a run is to be measured on, where nothing else is named.

    Returns:
        Notes for the user, a sentence each.

    Raises:
        OnebitError: the data are not there, or images have changed, so that those that were trained on cannot be told from the others.
    """
    check_there(recipe, known, folder)
    if known is None:
        place = {key: expand(value) for key, value in _paths(recipe).items() if key in DATA}
        lie = [str(path.absolute()) for path in place.values() if path.exists()]
        return [f"{folder} has no record of its data: {', '.join(lie)} is taken for it, as it is now"] if lie else []
    notes = []
    kind, found = KINDS[recipe.kind], fingerprints(recipe)
    for key in DATA:
        value = recipe.flat().get(key)
        if value is None or found[key] == known.get(key):
            continue
        if not kind.drawn:
            notes.append(f"{value} is not as it was when {folder} was trained: trained text may be in what is measured")
        elif not kind.has_test_part(value):
            raise OnebitError(
                f"[{folder}] {value} is not as it was when the network was trained on it, so that its test images cannot be told from trained ones: "
                "give other images with --data PATH, or this path to measure all of them"
            )
    return notes


def check_there(recipe: Recipe, known: dict[str, str | None] | None, folder: Path) -> None:
    """Refuse to look for a run's own data where they are not; raises OnebitError."""
    kind = KINDS[recipe.kind]
    for key, place in _paths(recipe).items():
        if key not in DATA:
            continue
        hidden = known is not None and known.get(key) == f"name {place}" and kind.hides(place)
        if hidden:
            raise OnebitError(
                f"[{folder}] was trained on the data set {place}, and a folder of that name, {hidden.absolute()}, goes before it here: "
                "stand in another folder, or give the images with --data PATH"
            )
        if place not in kind.names and not expand(place).exists():
            raise OnebitError(
                f"[{folder}] was trained with {key}={place}, which is not there: give the data with --data PATH"
            )


def _paths(recipe: Recipe) -> dict[str, str]:
    """The keys that name data, texts and networks, and that are set."""
    values = recipe.flat()
    return {key: value for key in KEYS if isinstance(value := values.get(key), str)}
