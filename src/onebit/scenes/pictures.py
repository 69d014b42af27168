"""Pictures and masks at a network's size. Both are scaled as a whole: nothing is cut off, and sides may be scaled by different factors."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onebit.images import load_image

Picture = str | Path | BinaryIO | Image.Image | NDArray[np.uint8]


def scaled(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels (height, width, channels) at another size (height, width), smoothed where they become fewer."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    made = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.uint8)
    return made.reshape(*size, pixels.shape[2])


def scaled_mask(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask (height, width) at another size: each pixel has the class of the nearest one."""
    if mask.shape == tuple(size):
        return mask
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST), np.uint8)


def load_whole(source: Picture, size: tuple[int, int], channels: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """A picture scaled to `size`, (height, width, channels), and its own (height, width). Raises DataError as `load_image` does."""
    pixels = load_image(source, None, channels)
    return scaled(pixels, size), pixels.shape[:2]
