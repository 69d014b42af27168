"""Annotations of Pascal VOC: an XML file for each picture. Files are read without entities, and nothing outside of them is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from onebit.errors import DataError, shown

# A file of a picture with ten thousand boxes has 4 MB.
_MOST_BYTES = 16 << 20


class DrawnBox(NamedTuple):
    """A box as it is annotated: its class, its sides in pixels, and whether it is marked as difficult or as a crowd."""

    label: str
    left: float
    top: float
    right: float
    bottom: float
    ignored: bool = False


class Annotation(NamedTuple):
    """The boxes of a picture.

    Args:
        picture: the name of its file, without folders; "" where the annotation has none.
        size: its (height, width) as the annotation has it; None where it does not.
        boxes: as they are annotated.
    """

    picture: str
    size: tuple[int, int] | None
    boxes: tuple[DrawnBox, ...]


def read_voc(path: Path) -> Annotation:
    """Read an annotation. An empty file, as some tools write for a picture without objects, has no boxes.

    Raises:
        DataError: it is not such a file, or a box lacks a side that is a number; one line that names the file.
    """
    root = _root(path)
    if root is None:
        return Annotation("", None, ())
    if root.tag != "annotation":
        raise DataError(f"[{path}] its XML is <{shown(root.tag)[1:-1]}>: needs an <annotation> of Pascal VOC")
    boxes = tuple(_box(path, number, one) for number, one in enumerate(root.findall("object"), 1))
    name = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    size = tuple(_side(root.findtext(f"size/{side}")) for side in ("height", "width"))
    return Annotation(name, (size[0], size[1]) if all(size) else None, boxes)


def _side(text: str | None) -> int:
    """A side of a picture; 0, as some tools write, where it is not known."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _box(path: Path, number: int, one: Element) -> DrawnBox:
    name = (one.findtext("name") or "").strip()
    if not name:
        raise DataError(f"[{path}] object {number} has no <name>: give the name of its class")
    sides: list[float] = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        text = one.findtext(f"bndbox/{side}")
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"[{path}] object {number}, {shown(name)}, has {side}={shown(text)}: needs a number of pixels"
            )
        sides.append(value)
    difficult = (one.findtext("difficult") or "").strip() not in ("", "0")
    left, top, right, bottom = sides
    return DrawnBox(name, left, top, right, bottom, difficult)


def _root(path: Path) -> Element | None:
    """The outermost element of an XML file; None of an empty one. A DOCTYPE is refused: it could name entities and other files."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"[{path}] has more than {_MOST_BYTES} bytes: an annotation of a picture is smaller")
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"[{path}] cannot be read: {error.strerror}") from None
    if not text.strip():
        return None
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise DataError(f"[{path}] has a DOCTYPE, which could name entities and other files: remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True
    try:
        parser.Parse(text, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"[{path}] is not whole XML ({error}): export it again") from None
