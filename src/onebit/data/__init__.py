"""Load images for training and measurement: folders, IDX files, digits, and named data sets. PyTorch is not needed."""

from onebit.data.images import ImageSet, ImageSplits
from onebit.data.load import load_images, load_test_images

__all__ = ["ImageSet", "ImageSplits", "load_images", "load_test_images"]
