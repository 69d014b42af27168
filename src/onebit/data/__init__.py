"""Images to train and measure on: folders, IDX files, digits, and data sets by name. Needs no PyTorch."""

from onebit.data.images import ImageSet, ImageSplits
from onebit.data.load import load_images, load_test_images

__all__ = ["ImageSet", "ImageSplits", "load_images", "load_test_images"]
