"""Read image files into arrays, in the same way for training and for deployment."""

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

# The suffixes of image files in a folder.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}

# The limit for a file that is decoded at full size. An 8K image, 7680x4320, fits. A file of a few hundred bytes can claim this many pixels,
# and decoding takes up to 16 bytes of memory for each.
MAX_PIXELS = 1 << 25
# The limit for a JPEG, which is decoded at a smaller size. A JPEG with one scan per colour still takes 6 bytes of memory per pixel.
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

    The image is turned upright by its EXIF orientation and read as grey or RGB. Transparent pixels become white; `onebit.grey` has the rule for
    grey of more than 8 bits. It is then scaled to cover `size`, and its centre is cut out. An animation gives its first picture. Training and
    deployment both use this function, so that a model sees the same pixels in both.

    Args:
        source: a path, an open binary file, a Pillow image, or uint8 pixels (height, width), (height, width, 1), (..., 3) or (..., 4).
        size: (height, width), or None to keep the image's own.
        channels: 1 or 3.

    Returns:
        uint8 (height, width, channels).

    Raises:
        DataError: the image cannot be read or decoded, has more than MAX_PIXELS pixels (MAX_JPEG_PIXELS for a JPEG that is scaled), or does not
            have the shape of an image. The message names the file.
    """
    with quiet_pillow():
        return decode_image(source, size, channels)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Hide Pillow's warnings about damaged EXIF and large images. Not for use in a thread: Python's filters belong to the process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode_image(
    source: str | Path | BinaryIO | Image.Image | NDArray[np.uint8], size: Sequence[int] | None, channels: int = 3
) -> NDArray[np.uint8]:
    """`load_image` for threads. The caller silences Pillow."""
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
            f"[image] {name}: is not an image that Pillow can read; use JPEG, PNG, WebP, BMP, GIF or TIFF"
        ) from None
    except Image.DecompressionBombError:
        raise DataError(f"[image] {name}: has more than {MAX_PIXELS} pixels; make it smaller first") from None
    except MemoryError:
        raise DataError(f"[image] {name}: there is not enough memory to decode it; make it smaller first") from None
    except OSError as error:
        reason = f"cannot be read: {error.strerror}" if error.strerror else f"does not decode ({error})"
        raise DataError(f"[image] {name}: {reason}") from None
    except Exception as error:  # decoders raise all kinds of errors on damaged input
        raise DataError(f"[image] {name}: does not decode ({error or type(error).__name__})") from None
    pixels: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def _decode(source: str | Path | BinaryIO, size: Sequence[int] | None) -> tuple[Image.Image, int | None]:
    """A file's first picture, and the bits of white if the format names them."""
    with Image.open(source) as image:
        if image.format == "EPS":
            raise UnidentifiedImageError  # Pillow would start Ghostscript, which runs programs from the file
        _check_size(image, size)
        bits = bits_of_format(image)
        try:
            image.load()
        except Exception:
            # After a TIFF's pixels Pillow reads all of its other fields, and one of them may be damaged.
            if image.format != "TIFF" or getattr(image, "tile", None):
                raise
            image.load()
    return image, bits


def _check_size(image: Image.Image, size: Sequence[int] | None) -> None:
    """Refuse an image of too many pixels before it is decoded. A large JPEG is decoded smaller, but not below `size`."""
    if 0 in image.size:
        raise DataError(f"has {image.width}x{image.height} pixels and is empty")
    most = MAX_PIXELS
    if image.width * image.height > MAX_PIXELS and image.format in ("JPEG", "MPO") and size is not None:
        most = MAX_JPEG_PIXELS
        if image.width * image.height <= most:
            # A half, a quarter or an eighth of the size takes a fraction of the time and memory. A square, because EXIF may turn it later.
            image.draft(None, (max(size), max(size)))
            most = MAX_PIXELS
    if image.width * image.height > most:
        raise DataError(f"{image.width}x{image.height} is more than {most} pixels; make it smaller first")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The transpose that turns the image upright. ImageOps.exif_transpose also rewrites all other fields and fails if one is damaged."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # the EXIF data cannot be read: keep the orientation
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
        raise DataError(f"[image] the pixels are {pixels.dtype}: use uint8, 0 to 255")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise DataError(
            f"[image] the array has the shape {pixels.shape}: use (height, width) or (height, width, 1, 3 or 4)"
        )
    return Image.fromarray(pixels)
