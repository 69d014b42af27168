"""Grey images of more than 8 bits, in integers or floats, to 8 bits: one rule for training, `classify` and `score`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onebit.errors import DataError

# Bits that cameras, microscopes and scanners write. A finer ladder (10, 14) would misjudge more pictures that are merely dark.
BITS = (8, 12, 16)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE = 258, 262, 281
_WHITE_IS_ZERO = 0


def is_deep(image: Image.Image) -> bool:
    """Whether `eight_bits` is for this image: its mode is one that Pillow itself would clip to 255."""
    return image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16")


def bits_of_format(image: Image.Image) -> int | None:
    """The bits of white, where the file says it, from an image that is opened and not yet decoded: Pillow forgets the maximum of a PGM."""
    if image.format == "PPM" and any(tile[0] == "ppm" for tile in getattr(image, "tile", ())):
        return 16  # to which that decoder scales any maximum but 65535
    return 12 if image.format == "TIFF" and _tag(image, _BITS_PER_SAMPLE) == (12,) else None


def eight_bits(image: Image.Image, bits: int | None = None) -> Image.Image:
    """Scale a decoded grey image of Pillow's modes I, I;16 or F to mode L.

    White is what the format says: the maximum of a PGM, 12 bits in a TIFF. Files that say 16 bits, 32 bits or floats hold fewer bits
    as often as not. There white is the first of 255, 4095 and 65535 that the brightest pixel does not exceed; for floats 1.0 comes first. The
    steps are far apart on purpose: pictures of one camera keep their brightness compared with each other.

    Args:
        image: decoded.
        bits: from `bits_of_format`.

    Returns:
        The image in mode L: the high 8 bits, floats rounded. Pixels of a PNG's transparent grey are white.

    Raises:
        DataError: values below 0, above 65535 or not finite; floats with a maximum between one white and its double. It does not name the file.
    """
    values = np.asarray(image)
    whole, white_bits = _from_floats(values) if values.dtype.kind == "f" else _from_integers(values, image, bits)
    grey = (whole >> (white_bits - 8)).astype(np.uint8)
    if image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey  # Pillow turns 8 bits round itself, and leaves more as they are
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _from_integers(
    values: NDArray[np.integer], image: Image.Image, bits: int | None
) -> tuple[NDArray[np.integer], int]:
    """The values, and the bits that white has."""
    low, high = int(values.min()), int(values.max())
    largest = max(high, _max_sample_value(image))
    bits = bits or next((b for b in BITS if largest < 1 << b), 0)
    if low < 0 or high >= 1 << bits:
        raise DataError(f"{image.mode} pixels of {low} to {high}: scale them to 0 to 255, 0 to 4095 or 0 to 65535")
    return values, bits


def _from_floats(values: NDArray[np.floating]) -> tuple[NDArray[np.integer], int]:
    """The values as integers, and the bits that white has."""
    low, high = float(values.min()), float(values.max())  # NaN where any is
    # Sharpening and rounding leave values half a step of 8 bits outside of a range. What lies farther above a white is an overshoot of it, or a dark
    # picture of the next: a wrong guess would be black.
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
    """What a TIFF calls its largest value; 0 where it says nothing.

    Some writers give the largest value that could be, some the largest that is there; either tells how many bits there are.
    """
    value = _tag(image, _MAX_SAMPLE_VALUE) if image.format == "TIFF" else None
    value = value[0] if isinstance(value, tuple) and value else value
    # The largest of 16 bits is what holds where nothing is said.
    return value if isinstance(value, int) and value < (1 << BITS[-1]) - 1 else 0


def _tag(image: Image.Image, tag: int) -> object:
    try:
        return image.tag_v2.get(tag)  # type: ignore[attr-defined]
    except Exception:  # a damaged tag, which Pillow reads only now
        return None
