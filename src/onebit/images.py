"""Image files to arrays, the same way when training and when deployed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from onebit.errors import DataError
from onebit.grey import bits_of_format, eight_bits, is_deep
from onebit.image_task import ImageTask as ImageTask
from onebit.paths import expand

# By which a folder's images are told from its other files.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}

# Of a file that is decoded as a whole: an image of 8K, 7680x4320, fits. A file of a few hundred bytes can claim as many, and takes up to 16 bytes
# of memory for each.
MAX_PIXELS = 1 << 25
# Of a JPEG, which is decoded smaller. Were its scans one colour each, it would take 6 bytes of memory for each pixel all the same.
MAX_JPEG_PIXELS = 1 << 26

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    source: str | Path | BinaryIO | Image.Image | NDArray[np.uint8], size: Sequence[int] | None, channels: int = 3
) -> NDArray[np.uint8]:
    """Decode one image, of any size and mode, to pixels.

    The image is turned upright by its EXIF orientation, read as grey or RGB (transparency lies on white; `onebit.grey` has the rule for grey of
    more than 8 bits), and scaled to cover `size`, the centre cut out. Of an animation the first picture counts. Training and deployment both use
    this function, so that a model sees in use what it saw in training.

    Args:
        source: a path, an open binary file, an image of Pillow, or pixels (height, width), (height, width, 1), (..., 3) or (..., 4), uint8.
        size: (height, width), or None to keep the image's own.
        channels: 1 or 3.

    Returns:
        uint8 (height, width, channels).

    Raises:
        DataError: the image cannot be read, does not decode, has more than MAX_PIXELS pixels (a JPEG that is scaled: MAX_JPEG_PIXELS), or a
            shape that is not an image's; the message names the file.
    """
    with quiet_pillow():
        return decode_image(source, size, channels)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings of damaged EXIF and of large images from users; not for use in a thread, as Python's filters are the process's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode_image(
    source: str | Path | BinaryIO | Image.Image | NDArray[np.uint8], size: Sequence[int] | None, channels: int = 3
) -> NDArray[np.uint8]:
    """`load_image` for threads: the caller keeps Pillow quiet."""
    name = source if isinstance(source, (str, Path)) else getattr(source, "name", "image")
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    elif isinstance(source, (str, Path)):
        source = expand(source)
    try:
        image, bits = (source, None) if isinstance(source, Image.Image) else _decode(source, size)
        turn = _turn(image)
        if is_deep(image):
            image = eight_bits(image, bits)
        image = _to_mode(image, "L" if channels == 1 else "RGB")
        if turn is not None:
            image = image.transpose(turn)
        if size is not None and image.size != (size[1], size[0]):
            image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BILINEAR)
    except DataError as error:
        raise DataError(f"[image] {name}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"[image] {name}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"[image] {name}: is a folder, not an image") from None
    except UnidentifiedImageError:
        raise DataError(
            f"[image] {name}: not an image that Pillow can read; use JPEG, PNG, WebP, BMP, GIF or TIFF"
        ) from None
    except Image.DecompressionBombError:
        raise DataError(f"[image] {name}: more than {MAX_PIXELS} pixels; make it smaller first") from None
    except MemoryError:
        raise DataError(f"[image] {name}: there is not enough memory to decode it; make it smaller first") from None
    except OSError as error:
        reason = f"cannot be read: {error.strerror}" if error.strerror else f"does not decode ({error})"
        raise DataError(f"[image] {name}: {reason}") from None
    except Exception as error:  # decoders raise what they like on damaged input
        raise DataError(f"[image] {name}: does not decode ({error or type(error).__name__})") from None
    pixels: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def _decode(source: str | Path | BinaryIO, size: Sequence[int] | None) -> tuple[Image.Image, int | None]:
    """A file's first picture, and the bits of its white where the format says them."""
    with Image.open(source) as image:
        if image.format == "EPS":
            raise UnidentifiedImageError  # Pillow would start Ghostscript, which runs what the file says
        _check_size(image, size)
        bits = bits_of_format(image)
        try:
            image.load()
        except Exception:
            # When its pixels are there a TIFF looks at all of its other fields, and one of them may be damaged.
            if image.format != "TIFF" or getattr(image, "tile", None):
                raise
            image.load()
    return image, bits


def _check_size(image: Image.Image, size: Sequence[int] | None) -> None:
    """Refuse what has too many pixels before they are decoded; a large JPEG is told to decode smaller, but not below `size`."""
    if 0 in image.size:
        raise DataError(f"has {image.width}x{image.height} pixels: there is nothing to see")
    most = MAX_PIXELS
    if image.width * image.height > MAX_PIXELS and image.format in ("JPEG", "MPO") and size is not None:
        most = MAX_JPEG_PIXELS
        if image.width * image.height <= most:
            # At a half, a quarter or an eighth, in a fraction of the time and memory; a square, as EXIF may turn it later.
            image.draft(None, (max(size), max(size)))
            most = MAX_PIXELS
    if image.width * image.height > most:
        raise DataError(f"{image.width}x{image.height} is more than {most} pixels; make it smaller first")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns the image upright. ImageOps.exif_transpose also writes all other fields anew, and fails where one of them is damaged."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # no EXIF that can be read: as it lies
        return None


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        image = white
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    return image if image.mode == mode else image.convert(mode)


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise DataError(f"[image] pixels of type {pixels.dtype}: use uint8, 0 to 255")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise DataError(f"[image] an array of shape {pixels.shape}: use (height, width) or (height, width, 1, 3 or 4)")
    return Image.fromarray(pixels)
