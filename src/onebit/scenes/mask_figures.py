"""How well masks agree: intersection over union of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The value of pixels that do not count, as in Pascal VOC.
NOT_COUNTED_PIXEL = 255


class MaskMetrics:
    r"""Counts pixels of true and found classes, picture by picture.

    .. math:: IoU_c = \frac{|found_c \cap true_c|}{|found_c \cup true_c|}, \qquad mIoU = \text{mean over the classes that occur}

    Args:
        classes: how many.

    Source: Everingham et al., Pascal VOC segmentation; Long et al., arXiv 1411.4038, section 5.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), np.int64)
        """(true class, found class): pixels."""

    def add(self, found: NDArray[np.integer], true: NDArray[np.integer]) -> None:
        """Count masks of one shape; pixels whose true class is 255 do not count."""
        classes = len(self.counts)
        counted = true != NOT_COUNTED_PIXEL
        pairs = true[counted].astype(np.int64) * classes + found[counted]
        self.counts += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)

    @property
    def shares(self) -> NDArray[np.float64]:
        """The intersection over union of each class (classes,); NaN for one that neither occurs nor is found."""
        common = np.diagonal(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - common
        return np.divide(common, union, out=np.full(len(common), np.nan), where=union > 0)

    @property
    def mean_share(self) -> float:
        """The mean over the classes that occur or are found; 0 where no pixel counts."""
        known = self.shares[~np.isnan(self.shares)]
        return float(known.mean()) if len(known) else 0.0

    @property
    def accuracy(self) -> float:
        """The share of pixels of the right class; 0 where no pixel counts."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))
