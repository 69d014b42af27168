"""Boxes and masks drawn into pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from onebit.printable import printable
from onebit.scenes.boxes import Box
from onebit.scenes.mask_figures import NOT_COUNTED_PIXEL

# A picture with a shorter side is drawn larger, so that labels do not hide what they name.
_LEAST_SIDE = 256
# The share of a class's colour over the picture.
_OVERLAY = 0.55
# A label's text as a share of the picture's shorter side, and its limits in pixels.
_TEXT_SHARE, _LEAST_TEXT, _MOST_TEXT = 1 / 28, 10, 40


def colours(count: int) -> NDArray[np.uint8]:
    """Colours of classes (count, 3), apart for neighbours and equal for equal numbers of classes: Pascal VOC's."""
    bits = np.arange(count)
    made = np.zeros((count, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            made[:, channel] |= (((bits >> channel) & 1) << (7 - place)).astype(np.uint8)
        bits = bits >> 3
    return made


def frame_colours(count: int) -> list[tuple[int, int, int]]:
    """Bright colours, far apart for neighbours: hues that step by the golden ratio."""
    hues = [(0.33 + 0.618034 * index) % 1 for index in range(count)]
    made = [colorsys.hls_to_rgb(hue, 0.55, 0.95) for hue in hues]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in made]


def draw_boxes(pixels: NDArray[np.uint8], boxes: Sequence[Box], labels: Sequence[str]) -> Image.Image:
    """A picture with a frame, a label and a score in percent for each box, the surest on top.

    A picture whose shorter side has less than 256 pixels is drawn larger, by a whole number.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        boxes: in pixels of the picture.
        labels: all classes, which decide the colours.
    """
    image, factor = _enlarged(_as_image(pixels))
    draw = ImageDraw.Draw(image)
    side = min(image.size)
    line = max(1, round(side / 200))
    font = ImageFont.load_default(min(max(side * _TEXT_SHARE, _LEAST_TEXT), _MOST_TEXT))
    by_label = dict(zip(labels, frame_colours(len(labels)), strict=True))
    for box in reversed(boxes):
        colour = by_label[box.label]
        left, top, right, bottom = (factor * value for value in box[2:])
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
        text = f"{printable(box.label)}: {100 * box.score:.0f} %"
        first, upper, last, lower = draw.textbbox((0, 0), text, font=font)
        wide, high = last - first + 2 * line, lower - upper + 2 * line
        x = max(0, min(left, image.width - wide))
        y = top - high if top >= high else top
        draw.rectangle((x, y, x + wide, y + high), fill=colour)
        draw.text((x + line - first, y + line - upper), text, fill="black", font=font)
    return image


def draw_mask(pixels: NDArray[np.uint8], mask: NDArray[np.uint8], classes: int) -> Image.Image:
    """A picture with the colour of each pixel's class over it; class 0 and pixels that do not count stay as they are.

    A small picture is drawn larger, as by `draw_boxes`.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        mask: uint8 (height, width), class numbers.
        classes: how many there are.
    """
    image = np.asarray(_as_image(pixels), np.float32)
    table = np.zeros((256, 3), np.float32)
    table[:classes] = colours(classes)[:256]
    coloured = (mask != 0) & (mask != NOT_COUNTED_PIXEL)
    mixed = np.where(coloured[..., None], (1 - _OVERLAY) * image + _OVERLAY * table[mask], image)
    return _enlarged(Image.fromarray(np.rint(mixed).astype(np.uint8)))[0]


def palette_image(mask: NDArray[np.uint8], classes: int) -> Image.Image:
    """A mask as an image of class numbers with a palette, as Pascal VOC has masks: viewers show colours, programs read numbers."""
    image = Image.fromarray(mask, "P")
    image.putpalette(colours(max(classes, 256)).ravel().tolist())
    return image


def _as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")


def _enlarged(image: Image.Image) -> tuple[Image.Image, int]:
    """A small picture made larger by a whole number, and the number."""
    factor = max(1, -(-_LEAST_SIDE // min(image.size)))
    size = (factor * image.width, factor * image.height)
    return (image if factor == 1 else image.resize(size, Image.Resampling.NEAREST)), factor
