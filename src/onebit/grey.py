"""Convert grey images of more than 8 bits to 8 bits, by one rule for training, `classify` and `score`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onebit.errors import DataError

# The bit depths of cameras, microscopes and scanners. With 10 and 14 too, more dark pictures would be misjudged.
BITS = (8, 12, 16)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE = 258, 262, 281
_WHITE_IS_ZERO = 0


def is_deep(image: Image.Image) -> bool:
    """Whether this image needs `eight_bits`: Pillow itself would clip its mode to 255."""
    return image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16")


def bits_of_format(image: Image.Image) -> int | None:
    """The bits of white that the file names, if it does. Call it before decoding, when Pillow still knows a PGM's maximum."""
    if image.format == "PPM" and any(tile[0] == "ppm" for tile in getattr(image, "tile", ())):
        return 16  # the decoder scales every maximum except 65535 to this
    return 12 if image.format == "TIFF" and _tag(image, _BITS_PER_SAMPLE) == (12,) else None


def eight_bits(image: Image.Image, bits: int | None = None) -> Image.Image:
    """Scale a decoded grey image of Pillow's modes I, I;16 or F to mode L.

    White is what the format says: the maximum of a PGM, or 12 bits in a TIFF. Files that say 16 bits, 32 bits or floats often hold fewer
    bits. For them, white is the first of 255, 4095 and 65535 that the brightest pixel does not exceed; for floats, 1.0 comes first. These
    steps are far apart on purpose, so that pictures of one camera keep their relative brightness.

    Args:
        image: decoded.
        bits: from `bits_of_format`.

    Returns:
        The image in mode L: the high 8 bits, floats rounded. Pixels of a PNG's transparent grey are white.

    Raises:
        DataError: values are below 0, above 65535 or not finite, or floats have a maximum between one white and its double. The message
            does not name the file.
    """
    values = np.asarray(image)
    whole, white_bits = _from_floats(values) if values.dtype.kind == "f" else _from_integers(values, image, bits)
    grey = (whole >> (white_bits - 8)).astype(np.uint8)
    if image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey  # Pillow inverts 8 bits itself, and leaves more bits as they are
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _from_integers(
    values: NDArray[np.integer], image: Image.Image, bits: int | None
) -> tuple[NDArray[np.integer], int]:
    """The values of an image of floats, and the bits of white."""
    low, high = int(values.min()), int(values.max())
    largest = max(high, _max_sample_value(image))
    bits = bits or next((b for b in BITS if largest < 1 << b), 0)
    if low < 0 or high >= 1 << bits:
        raise DataError(f"{image.mode} pixels of {low} to {high}: scale them to 0 to 255, 0 to 4095 or 0 to 65535")
    return values, bits


def _from_floats(values: NDArray[np.floating]) -> tuple[NDArray[np.integer], int]:
    """The values as integers, and the bits of white."""
    low, high = float(values.min()), float(values.max())  # NaN if any value is NaN
    # Sharpening and rounding leave values up to half an 8-bit step outside a range. A maximum farther above one white is either an overshoot
    # or a dark picture of the next white. A wrong guess would give a black picture.
    margin = 0.5 / 255
    for white, bits in ((1.0, 8), *((float((1 << bits) - 1), bits) for bits in BITS)):
        if high > white * (1 + margin):
            if high < 2 * white:
                break
        elif low < -margin * white:
            break
        elif np.isfinite(low):
            scaled = np.clip(values, 0, white)
            if white == 1:
                scaled *= 255
            return np.rint(scaled, out=scaled).astype(np.uint16), bits
    raise DataError(f"F pixels of {low:g} to {high:g}: scale them to 0 to 1, 0 to 255, 0 to 4095 or 0 to 65535")


def _max_sample_value(image: Image.Image) -> int:
    """The largest value that a TIFF names, or 0.

    Some writers give the largest possible value, others the largest in the picture. Both tell the number of bits.
    """
    value = _tag(image, _MAX_SAMPLE_VALUE) if image.format == "TIFF" else None
    value = value[0] if isinstance(value, tuple) and value else value
    # The largest 16-bit value is the default and tells nothing.
    return value if isinstance(value, int) and value < (1 << BITS[-1]) - 1 else 0


def _tag(image: Image.Image, tag: int) -> object:
    try:
        return image.tag_v2.get(tag)  # type: ignore[attr-defined]
    except Exception:  # a damaged tag: Pillow reads it only here
        return None
