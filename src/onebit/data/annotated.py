"""Folders of pictures with boxes, as Pascal VOC, COCO and tools for annotating lay them out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.data.coco import read_coco
from onebit.data.scenes import BoxSet
from onebit.data.voc import Annotation, read_voc
from onebit.errors import DataError
from onebit.images import SUFFIXES, decode_image, quiet_pillow
from onebit.printable import printable
from onebit.processors import cores
from onebit.progress import report
from onebit.scenes.average_precision import Objects
from onebit.scenes.pictures import scaled
from onebit.walk import entries, is_hidden

# Names of parts, in lower case.
PARTS = {
    "train": ("train", "training", "train2017", "train2014"),
    "validation": ("valid", "val", "validation", "val2017", "val2014"),
    "test": ("test", "testing", "test2017"),
}
LAYOUTS = (
    "needs Annotations/, JPEGImages/ and ImageSets/Main/ (Pascal VOC), annotations/*.json with folders of pictures (COCO), or pictures "
    "with an .xml file or one COCO .json file next to them, all in one folder or in train/, valid/ and test/"
)


class Pair(NamedTuple):
    """A picture's file, and its boxes as they are annotated. `where` is the file of the annotation."""

    picture: Path
    annotation: Annotation
    where: Path


@dataclass(frozen=True)
class Annotated:
    """The pictures of a folder by their parts: "train", perhaps "validation" and "test"; those of one folder are all "train"."""

    parts: dict[str, list[Pair]]
    notes: tuple[str, ...] = ()


def find_annotated(root: Path) -> Annotated:
    """Read the annotations of a folder.

    Raises:
        DataError: no layout fits, an annotation is damaged, or its picture is missing; one line that names the file.
    """
    for base in _bases(root):
        made = _voc(base) or _coco(base) or _parts(base)
        if made is not None:
            if not made.parts.get("train"):
                raise DataError(f"[{base}] has no picture to train on: {LAYOUTS}")
            return made
    raise DataError(f"[{root}] has no annotated pictures: {LAYOUTS}")


def load_annotated(
    pairs: Sequence[Pair], size: tuple[int, int], channels: int, classes: tuple[str, ...] | None, where: str
) -> BoxSet:
    """Decode pictures, scaled as a whole, with their boxes: cut at the sides of the picture, without those that keep no area.

    Args:
        pairs: at least one.
        size: (height, width).
        channels: 1 or 3.
        classes: allowed names; None: those that occur.
        where: the data, for messages.

    Raises:
        DataError: a picture does not decode or has another size than its annotation, or a box is of a class that is not allowed.
    """
    found = tuple(sorted({box.label for pair in pairs for box in pair.annotation.boxes}))
    for pair in pairs:
        unknown = None if classes is None else next((b for b in pair.annotation.boxes if b.label not in classes), None)
        if unknown is not None:
            raise DataError(
                f"[{pair.where}] has a box of class {unknown.label!r}, which was not trained; allowed: {', '.join(classes or ())}"
            )
    if not found and classes is None:
        raise DataError(f"[{where}] has no boxes: annotate some of the pictures")
    names = found if classes is None else classes
    pixels = np.empty((len(pairs), *size, channels), np.uint8)
    sizes: list[tuple[int, int]] = [(0, 0)] * len(pairs)
    broken: list[DataError] = []

    def decode(index: int) -> None:
        pair = pairs[index]
        try:
            picture = decode_image(pair.picture, None, channels)
        except DataError as error:
            broken.append(error)
            return
        sizes[index] = picture.shape[:2]
        stated = pair.annotation.size
        if stated is not None and stated != picture.shape[:2]:
            broken.append(
                DataError(
                    f"[{pair.where}] is of a picture of {stated[1]}x{stated[0]} pixels, and {pair.picture.name} has "
                    f"{picture.shape[1]}x{picture.shape[0]}: annotate the picture as it is"
                )
            )
        pixels[index] = scaled(picture, size)

    with quiet_pillow(), ThreadPoolExecutor(cores()) as pool:
        for count, _ in enumerate(pool.map(decode, range(len(pairs))), 1):
            report("read", count, len(pairs), "images")
    if broken:
        more = f" ({len(broken)} files in all cannot be used)" if len(broken) > 1 else ""
        raise DataError(f"{min(broken, key=str)}{more}")
    left: list[Path] = []
    objects = [_objects(pair, own, size, names, left) for pair, own in zip(pairs, sizes, strict=True)]
    notes = []
    if left:
        boxes = (
            "1 box has no area inside its picture and is"
            if len(left) == 1
            else f"{len(left)} boxes have no area inside their pictures and are"
        )
        notes.append(f"{printable(where)}: {boxes} left out, the first in {printable(min(left).name)}")
    return BoxSet(pixels, tuple(objects), names, tuple(notes))


def _objects(
    pair: Pair, own: tuple[int, int], size: tuple[int, int], classes: Sequence[str], left: list[Path]
) -> Objects:
    """The boxes of a picture, cut at its sides and scaled; files of boxes without area are added to `left`."""
    boxes = pair.annotation.boxes
    sides = np.array([box[1:5] for box in boxes], np.float64).reshape(-1, 4)
    sides = np.clip(sides, 0, [own[1], own[0]] * 2)
    whole = ((sides[:, 2:] - sides[:, :2]) > 0).all(1)
    left += [pair.where] * int((~whole).sum())
    scale = np.array([size[1] / own[1], size[0] / own[0]] * 2)
    labels: NDArray[np.int64] = np.array([classes.index(box.label) for box in boxes], np.int64)
    ignored = np.array([box.ignored for box in boxes], bool)
    return Objects((sides * scale).astype(np.float32)[whole], labels[whole], ignored[whole])


def _folders(root: Path) -> list[Path]:
    return [Path(one) for one in entries(root) if not is_hidden(one.name) and Path(one).is_dir()]


def _bases(root: Path) -> list[Path]:
    """The folder, and those that an archive may have put around its contents, as VOCdevkit/VOC2012 is."""
    bases = [root]
    while len(bases) < 3:
        inside = _folders(bases[-1])
        if len(inside) != 1:
            break
        bases.append(inside[0])
    return bases


def _pictures(folder: Path) -> dict[str, Path]:
    """The pictures directly in a folder by their names without a suffix."""
    files = [Path(one) for one in entries(folder) if not is_hidden(one.name)]
    return {file.stem: file for file in files if file.suffix.lower() in SUFFIXES}


def _voc(root: Path) -> Annotated | None:
    """Annotations/, JPEGImages/ and ImageSets/Main/."""
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    notes, images = folders.get("annotations"), folders.get("jpegimages") or folders.get("images")
    if notes is None or images is None:
        return None
    files = {Path(one).stem: Path(one) for one in entries(notes) if Path(one).suffix.lower() == ".xml"}
    if not files:
        return None
    pictures = _pictures(images)
    lists = {
        part: _list(root / "ImageSets" / "Main" / f"{name}.txt")
        for part, name in (("train", "train"), ("validation", "val"), ("test", "test"), ("trainval", "trainval"))
    }
    parts = {part: names for part, names in lists.items() if names}
    trainval = parts.pop("trainval", None)
    if "train" not in parts and trainval is not None:
        parts["train"] = [name for name in trainval if name not in parts.get("validation", [])]
    if "train" not in parts:
        parts = {"train": sorted(files)}
    made = {part: [_voc_pair(root, name, files, pictures) for name in names] for part, names in parts.items()}
    return Annotated(made)


def _voc_pair(root: Path, name: str, files: dict[str, Path], pictures: dict[str, Path]) -> Pair:
    where = files.get(name)
    if where is None:
        raise DataError(
            f"[{root}] ImageSets names {name!r}, and Annotations has no {name}.xml: add it, or take it off the list"
        )
    return _pair_of(where, pictures)


def _pair_of(where: Path, pictures: dict[str, Path]) -> Pair:
    """An annotation and its picture: the one of the same name, or the one that it names."""
    annotation = read_voc(where)
    picture = pictures.get(where.stem) or pictures.get(Path(annotation.picture).stem)
    if picture is None:
        raise DataError(
            f"[{where}] has no picture: there is no image file named {where.stem}; add it, or remove the annotation"
        )
    return Pair(picture, annotation, where)


def _list(path: Path) -> list[str]:
    """The names in a list of ImageSets/Main; nothing where there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = path.read_text("utf-8").splitlines()
        return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    return []


def _coco(root: Path) -> Annotated | None:
    """annotations/instances_PART.json, and the pictures of a part in a folder of its name or in one for all."""
    folder = root / "annotations"
    if not folder.is_dir():
        return None
    found = {}
    for path in sorted(folder.glob("*.json")):
        words = path.stem.lower().replace("instances_", "").replace("-", "_").split("_")
        part = next((part for part, names in PARTS.items() if any(word in names for word in words)), None)
        if part is None or part in found or "keypoints" in words or "captions" in words:
            continue
        at = [root / path.stem.replace("instances_", ""), root / "images" / path.stem.replace("instances_", "")]
        at += [root / name for name in PARTS[part]] + [root / "images" / name for name in PARTS[part]]
        place = next((one for one in [*at, root / "images"] if one.is_dir()), root)
        found[part] = _coco_pairs(path, place)
    return Annotated(found) if found else None


def _coco_pairs(path: Path, folder: Path) -> list[Pair]:
    pictures = {file.name: file for file in _pictures(folder).values()}
    made = []
    for annotation in read_coco(path)[0]:
        if annotation.picture not in pictures:
            raise DataError(
                f"[{path}] names {annotation.picture}, which is not in {folder}: add it, or remove it from the file"
            )
        made.append(Pair(pictures[annotation.picture], annotation, path))
    return made


def _parts(root: Path) -> Annotated | None:
    """Pictures with annotations next to them, in one folder or in one for each part."""
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    parts = {part: folders[name] for part, names in PARTS.items() for name in names if name in folders}
    if "train" not in parts:
        made = _beside(root)
        return None if made is None else Annotated({"train": made[0]}, made[1])
    pairs: dict[str, list[Pair]] = {}
    notes: list[str] = []
    for part, folder in parts.items():
        made = _beside(folder)
        if made is None:
            raise DataError(f"[{folder}] has no annotated pictures: {LAYOUTS}")
        pairs[part] = made[0]
        notes += made[1]
    return Annotated(pairs, tuple(notes))


def _beside(folder: Path) -> tuple[list[Pair], tuple[str, ...]] | None:
    """Pictures of a folder with an .xml file each, or with one .json file; those without are left out, which a note says."""
    files = [Path(one) for one in entries(folder) if not is_hidden(one.name)]
    tables = [file for file in files if file.suffix.lower() == ".json"]
    if len(tables) == 1:
        return _coco_pairs(tables[0], folder), ()
    if len(tables) > 1:
        raise DataError(f"[{folder}] has {len(tables)} .json files: leave the one with the boxes")
    xml = [file for file in files if file.suffix.lower() == ".xml"]
    pictures = _pictures(folder)
    if not xml or not pictures:
        return None
    pairs = [_pair_of(file, pictures) for file in xml]
    used = {pair.picture for pair in pairs}
    without = sorted(picture.name for picture in pictures.values() if picture not in used)
    if not without:
        return pairs, ()
    count = "1 picture without an annotation" if len(without) == 1 else f"{len(without)} pictures without annotations"
    return pairs, (f"{printable(folder)}: left out {count}, the first {printable(without[0])}",)


def all_classes(parts: Sequence[BoxSet]) -> tuple[BoxSet, ...]:
    """Sets with the classes of all of them, in alphabetical order."""
    names = tuple(sorted({name for part in parts for name in part.classes}))
    return tuple(replace(part.with_classes(names, "data")) for part in parts)
