"""Annotations of COCO: one JSON file for many pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from onebit.data.voc import Annotation, DrawnBox
from onebit.errors import DataError, shown

# COCO's own file of 118,000 pictures has 450 MB.
_MOST_BYTES = 1 << 30
# No picture is larger; NaN is not below it either.
_FARTHEST = 1e9


def read_coco(path: Path) -> tuple[list[Annotation], tuple[str, ...]]:
    """Read the annotations of all pictures of a file, and the names of its classes in the order of their ids.

    Classes without a box, such as the supercategory that some tools add, are left out.

    Raises:
        DataError: it is not such a file, or an annotation is of a picture or a class that the file does not have; one line that names the file.
    """
    content = _content(path)
    classes = {
        _whole(path, one, "id", "categories"): _text(path, one, "name", "categories") for one in content["categories"]
    }
    if len(set(classes.values())) != len(classes):
        raise DataError(f"[{path}] has two categories of one name: give each its own")
    pictures = {_whole(path, one, "id", "images"): one for one in content["images"]}
    if len(pictures) != len(content["images"]):
        raise DataError(f"[{path}] has two images of one id: give each its own")
    boxes: dict[int, list[DrawnBox]] = defaultdict(list)
    used = set()
    for number, one in enumerate(content["annotations"]):
        image, category = (_whole(path, one, key, "annotations") for key in ("image_id", "category_id"))
        if image not in pictures:
            raise DataError(f"[{path}] annotations[{number}] is of image {image}, which the file does not have")
        if category not in classes:
            raise DataError(f"[{path}] annotations[{number}] is of category {category}, which the file does not have")
        left, top, width, height = _sides(path, number, one)
        used.add(category)
        crowd = one.get("iscrowd", 0) not in (0, False)
        boxes[image].append(DrawnBox(classes[category], left, top, left + width, top + height, crowd))
    found = []
    for key, one in pictures.items():
        name = _text(path, one, "file_name", "images").replace("\\", "/").rpartition("/")[2]
        tall, wide = (int(side) if type(side := one.get(key)) is int and side > 0 else 0 for key in ("height", "width"))
        size = (tall, wide) if tall and wide else None
        found.append(Annotation(name, size, tuple(boxes[key])))
    return found, tuple(classes[key] for key in sorted(used))


def _content(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"[{path}] has more than {_MOST_BYTES} bytes: divide it")
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"[{path}] cannot be read: {error.strerror}") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"[{path}] is not JSON ({' '.join(str(error).split())[:120]}): export it again") from None
    if not isinstance(content, dict):
        raise DataError(f"[{path}] is not an object: needs images, annotations and categories, as COCO has them")
    for name in ("images", "annotations", "categories"):
        rows = content.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(
                f"[{path}] lacks its list of {name}: needs images, annotations and categories, as COCO has them"
            )
    return content


def _whole(path: Path, one: dict[str, Any], key: str, where: str) -> int:
    value = one.get(key)
    if type(value) is not int:
        raise DataError(f"[{path}] {where} has {key}={shown(value)}: needs a whole number")
    return value


def _text(path: Path, one: dict[str, Any], key: str, where: str) -> str:
    value = one.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"[{path}] {where} has {key}={shown(value)}: needs a text")
    return value.strip()


def _sides(path: Path, number: int, one: dict[str, Any]) -> list[float]:
    box = one.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(n) in (int, float) and abs(n) < _FARTHEST for n in box)
    ):
        raise DataError(
            f"[{path}] annotations[{number}] has bbox={shown(box)}: needs [left, top, width, height] in pixels"
        )
    return [float(n) for n in box]
