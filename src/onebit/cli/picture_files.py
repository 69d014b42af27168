"""What `onebit detect` and `onebit segment` share: picture files in, drawn pictures out."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any, TypeVar

from onebit.cli import arguments
from onebit.errors import DataError, OnebitError

S = TypeVar("S")
# What concerns one picture only.
FAULTS = (DataError, OSError)
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def add_arguments(parser: Any) -> None:
    """FILE, the pictures, --out, and what the engine takes."""
    parser.add_argument("file", type=arguments.packed_file, metavar="FILE", help="a .onebit file")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="JPEG, PNG, WebP, BMP, GIF, TIFF")
    text = "write the drawn picture: a .png, .jpg or .webp file, or a folder for several pictures. Pictures of fewer than 256 pixels are drawn larger"
    parser.add_argument("--out", type=arguments.path, metavar="FILE", help=text)
    arguments.precision(parser)
    arguments.threads(parser)
    arguments.as_json(parser, "print one JSON array for all files")


def session_of(args: argparse.Namespace, kind: type[S], command: str, needed: str) -> S:
    """The file in the engine; raises OnebitError where it is of another task."""
    from onebit.runtime import load

    session = load(args.file, precision=args.precision, threads=args.threads)
    if not isinstance(session, kind):
        raise OnebitError(f"[{command}] {args.file} is not {needed}: use 'onebit info {args.file}' to see what it is")
    return session


def pairs(names: list[str], out: Path | None) -> list[tuple[str, Path | None]]:
    """Each picture with the file that it is drawn to: `out` itself, or one of the picture's name in the folder `out`."""
    if out is None:
        return [(name, None) for name in names]
    if len(names) == 1 and out.suffix.lower() in _SUFFIXES and not out.is_dir():
        return [(names[0], out)]
    if out.suffix.lower() in _SUFFIXES or (out.suffix and not out.is_dir()):
        raise OnebitError(f"[out] {out}: give a .png, .jpg or .webp file for one picture, or a folder for several")
    made: list[tuple[str, Path | None]] = [(name, out / f"{Path(name).stem}.png") for name in names]
    if len({path for _, path in made}) != len(made):
        raise OnebitError(f"[out] {out}: two of the pictures have one name; draw them one after another")
    out.mkdir(parents=True, exist_ok=True)
    return made


def pixels_of(name: str) -> Any:
    """A picture as it is, in colours."""
    from onebit.images import load_image

    return load_image(name, None, 3)


def save(image: Any, path: Path) -> None:
    """Write a picture, whole or not at all."""
    from onebit.fileformat import write_atomically

    kind = _SUFFIXES[path.suffix.lower()]
    if image.mode == "P" and kind != "PNG":
        raise DataError(f"[mask] {path}: a mask is a .png file, which keeps its numbers")
    content = io.BytesIO()
    image.save(content, kind)
    write_atomically(path, content.getvalue())
