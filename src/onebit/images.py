"""Image files to arrays, the same way when training and when deployed; and what a classifier knows about its images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from onebit.errors import DataError, FormatError
from onebit.paths import expand

# By which a folder's images are told from its other files.
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class ImageTask:
    """What a classifier of images knows about its task; it travels with a run and inside the packed file.

    Args:
        labels: one name for each class, in the order of the logits.
        image_size: (height, width) in pixels that the network takes.
        channels: 1 (grey) or 3 (RGB).
        mean, std: for each channel, in units of full scale: the network sees ``(pixel / 255 - mean) / std``.

    Raises:
        DataError: a field does not fit the others.
    """

    labels: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # An empty mean or std is the plain scaling of full scale to -1 .. 1.
        object.__setattr__(self, "mean", tuple(float(m) for m in self.mean) or (0.5,) * self.channels)
        object.__setattr__(self, "std", tuple(float(s) for s in self.std) or (0.5,) * self.channels)
        if self.channels not in (1, 3):
            raise DataError(f"[ImageTask] channels={self.channels}: use 1 (grey) or 3 (RGB)")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise DataError(f"[ImageTask] mean and std need one number for each of {self.channels} channels")
        if not all(np.isfinite(self.mean)) or not all(np.isfinite(self.std)) or min(self.std) <= 0:
            raise DataError(f"[ImageTask] mean={self.mean}, std={self.std}: use finite numbers, and std above 0")
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise DataError(f"[ImageTask] image_size={self.image_size}: use (height, width), at least 1 pixel each")
        if not self.labels:
            raise DataError("[ImageTask] no labels: name at least one class")

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values, with its kind."""
        return {"kind": "image-classification", **asdict(self)}

    @classmethod
    def from_json(cls, values: Any) -> ImageTask:
        """The task from the values of `to_json`; raises FormatError where they do not describe one."""
        try:
            kind = values["kind"]
            if kind != "image-classification":
                raise FormatError(f"[ImageTask] kind {kind!r}: only 'image-classification' is known")
            labels = values["labels"]
            if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
                raise FormatError("[ImageTask] labels are not a list of texts")
            height, width = (int(side) for side in values["image_size"])
            return cls(
                tuple(labels), (height, width), int(values["channels"]), tuple(values["mean"]), tuple(values["std"])
            )
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"[ImageTask] the description of the task is damaged ({error})") from None


def load_image(
    source: str | Path | BinaryIO | NDArray[np.uint8], size: Sequence[int] | None, channels: int = 3
) -> NDArray[np.uint8]:
    """Decode one image, of any size and mode, to pixels.

    The image is turned upright by its EXIF orientation, read as grey or RGB (transparency lies on white), and scaled to cover
    `size`, the centre cut out. Training and deployment both use this function, so that a model sees in use what it saw in training.

    Args:
        source: a path, an open binary file, or pixels (height, width), (height, width, 1), (..., 3) or (..., 4), uint8.
        size: (height, width), or None to keep the image's own.
        channels: 1 or 3.

    Returns:
        uint8 (height, width, channels).

    Raises:
        DataError: the image does not decode, or has a shape that is not an image's.
    """
    if isinstance(source, np.ndarray):
        image = _from_array(source)
    else:
        if isinstance(source, (str, Path)):
            source = expand(source)
        name = source if isinstance(source, (str, Path)) else getattr(source, "name", "image")
        try:
            with warnings.catch_warnings():
                # Pillow only warns of a decompression bomb below twice its limit; to a program, both are one refusal.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                image = Image.open(source)
                image.load()
        except FileNotFoundError:
            raise DataError(f"[image] {name}: no such file") from None
        except IsADirectoryError:
            raise DataError(f"[image] {name}: is a folder, not an image") from None
        except UnidentifiedImageError:
            raise DataError(
                f"[image] {name}: not an image that Pillow can read; use JPEG, PNG, WebP, BMP, GIF or TIFF"
            ) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise DataError(
                f"[image] {name}: more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller first"
            ) from None
        except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
            raise DataError(f"[image] {name}: does not decode ({error})") from None
        image = ImageOps.exif_transpose(image)
    image = _to_mode(image, "L" if channels == 1 else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        # Pillow clips 16-bit grey to 255 when it converts; keep the high byte instead.
        values = np.asarray(image, dtype=np.int64)
        image = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise DataError(f"[image] pixels of type {pixels.dtype}: use uint8, 0 to 255")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise DataError(f"[image] an array of shape {pixels.shape}: use (height, width) or (height, width, 1, 3 or 4)")
    return Image.fromarray(pixels)
