"""Named data sets: scikit-learn's digits, which are always available, and Hugging Face's, which are downloaded once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.data.images import ImageSet
from onebit.errors import DataError
from onebit.images import load_image
from onebit.paths import expand
from onebit.walk import entries, is_hidden


class HubSet(NamedTuple):
    """The path of a data set on the hub, and the names of its columns."""

    path: str
    image: str
    label: str
    test: str


HUB_SETS = {
    "cifar10": HubSet("uoft-cs/cifar10", "img", "label", "test"),
    "food101": HubSet("ethz/food101", "image", "label", "validation"),
    "mnist": HubSet("ylecun/mnist", "image", "label", "test"),
    "fashion-mnist": HubSet("zalando-datasets/fashion_mnist", "image", "label", "test"),
}


def folder_of(data: str) -> Path | None:
    """The folder of images that `data` names. None if there is none, or if `data` names a data set.

    A folder takes precedence over a data set of the same name, unless it is empty or a run folder. So `digits` still means the data set in runs/,
    where a training has written runs/digits.
    """
    path = expand(data)
    if not path.is_dir():
        return None
    if data != "digits" and data not in HUB_SETS:
        return path
    names = {entry.name for entry in entries(path) if not is_hidden(entry.name)}
    return None if not names or "recipe.yaml" in names else path


def load_digits(size: tuple[int, int] | None, channels: int) -> ImageSet:
    """The 1,797 handwritten digits of 8x8 pixels in scikit-learn (E. Alpaydin and C. Kaynak, UCI)."""
    try:
        from sklearn import datasets
    except ImportError:
        raise DataError('[digits] needs scikit-learn: pip install "onebit[train]"') from None
    digits = datasets.load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    if channels == 3 or (size is not None and tuple(size) != (8, 8)):
        pixels = np.stack([load_image(image, size, channels) for image in pixels])
    return ImageSet(pixels, digits.target.astype(np.int64), tuple(str(i) for i in range(10)))


def load_hub(name: str, part: str, size: tuple[int, int] | None, channels: int, path: str | None = None) -> ImageSet:
    """The "train" or "test" part of a named data set, from the Hugging Face cache or the network.

    Args:
        name: a key of HUB_SETS.
        part: "train" or "test".
        size: (height, width), or None for the size of the first image.
        channels: 1 or 3.
        path: another source with the same columns, as `datasets.load_dataset` takes it.

    Raises:
        DataError: the library is missing, there is neither a network nor a cached copy, or the columns are not as expected.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f'[{name}] is loaded through Hugging Face datasets: pip install "onebit[train]"') from None
    known = HUB_SETS[name]
    split = known.test if part == "test" else "train"
    try:
        table = datasets.load_dataset(path or known.path, split=split)
    except Exception as error:  # the library and the network raise many kinds of errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"[{name}] cannot be loaded ({reason}): go online once to download it, or give folders of images with --data PATH"
        ) from None
    if known.image not in table.column_names or known.label not in table.column_names:
        raise DataError(f"[{name}] has the columns {table.column_names}: needs {known.image!r} and {known.label!r}")
    feature = table.features[known.label]
    labels = np.asarray(table[known.label], np.int64)
    names = tuple(feature.names) if hasattr(feature, "names") else tuple(str(i) for i in range(int(labels.max()) + 1))
    pixels: NDArray[np.uint8] | None = None
    rows = iter(table)
    for index in range(len(table)):
        try:
            image = next(rows)[known.image]
            if pixels is None:
                pixels = np.empty((len(table), *(size or (image.height, image.width)), channels), np.uint8)
            pixels[index] = load_image(image, pixels.shape[1:3], channels)
        except MemoryError:
            raise
        except Exception as error:  # the library decodes, and raises all of Pillow's errors
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"[{name}] image {index} of {part} cannot be used ({reason})") from None
    if pixels is None:
        raise DataError(f"[{name}] is empty")
    return ImageSet(pixels, labels, names)
