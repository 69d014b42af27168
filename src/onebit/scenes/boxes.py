"""Boxes: their overlap, and what a detector's grid says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.tasks.pictures import BOX_VALUES, STRIDE

Boxes = NDArray[np.float32]  # (n, 4): left, top, right, bottom, in pixels

# Boxes of one class that overlap by more than this are one object.
SAME_OBJECT = 0.5
# More peaks than a picture has objects: the most that a picture of COCO is judged by.
MOST_PEAKS = 100
# exp of more would be larger than any picture.
_LARGEST_LOG = 12.0


class Box(NamedTuple):
    """An object that was found in a picture.

    Args:
        label: the name of its class.
        score: how sure the network is, 0 to 1.
        left, top, right, bottom: its sides, in pixels of the picture. Pixel 0 begins at 0 and ends at 1.
    """

    label: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


class Found(NamedTuple):
    """What a detector finds in a picture, the surest first: boxes (n, 4), class numbers (n,) and scores (n,)."""

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


def areas(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Boxes (..., 4) to areas (...). A box whose sides have changed places has none."""
    sides: NDArray[np.floating] = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def overlaps(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> NDArray[np.floating]:
    r"""Intersection over union of each of ours with each of theirs.

    .. math:: IoU(a, b) = |a \cap b| / |a \cup b|

    Args:
        ours: (n, 4).
        theirs: (m, 4).

    Returns:
        (n, m), 0 to 1. Boxes without area give 0.
    """
    first = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    last = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    common = areas(np.concatenate([first, last], -1))
    union = areas(ours)[:, None] + areas(theirs)[None] - common
    shares: NDArray[np.floating] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def suppressed(found: Found, most: float = SAME_OBJECT) -> Found:
    """Without boxes that overlap a surer one of their class by more than `most` (greedy non-maximum suppression)."""
    order = np.argsort(-found.scores, kind="stable")
    kept: list[int] = []
    shares = overlaps(found.boxes, found.boxes)
    for index in order:
        rivals = [other for other in kept if found.labels[other] == found.labels[index]]
        if not rivals or shares[index, rivals].max() <= most:
            kept.append(int(index))
    chosen = np.array(kept, np.int64)
    return Found(found.boxes[chosen], found.labels[chosen], found.scores[chosen])


def decode(grid: NDArray[np.float32], threshold: float, width: float, height: float, most: int = MOST_PEAKS) -> Found:
    """The objects that a detector's output for a picture describes.

    A cell is a peak of a class where its score is the highest of its 3x3 neighbours. The box of a peak has its centre and its sides from the
    same cell.

    Args:
        grid: (rows, columns, classes + 4): a logit for each class, log width and log height, and the centre less the cell's number, across and
            down. All lengths are in cells.
        threshold: the least score, 0 to 1.
        width, height: of the picture in pixels; boxes are scaled to it and cut at its sides.
        most: peaks, before boxes of the same object are left out.

    Source: Zhou et al., Objects as Points, arXiv 1904.07850, section 4.
    """
    rows, columns = grid.shape[:2]
    logits = np.nan_to_num(grid[..., :-BOX_VALUES].astype(np.float32), nan=-np.inf)
    padded = np.pad(logits, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    around = np.stack([padded[r : r + rows, c : c + columns] for r in range(3) for c in range(3)]).max(0)
    with np.errstate(over="ignore"):
        scores: NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    peaks = np.flatnonzero((logits == around) & (scores >= threshold))
    values = scores.ravel()[peaks]
    peaks = peaks[np.argsort(-values, kind="stable")[:most]]
    down, across, labels = np.unravel_index(peaks, logits.shape)
    place = np.nan_to_num(grid[down, across, -BOX_VALUES:].astype(np.float64))  # (n, 4)
    half = np.exp(np.clip(place[:, :2], -_LARGEST_LOG, _LARGEST_LOG)) / 2
    centre = np.stack([across, down], 1) + np.clip(place[:, 2:], -columns - rows, columns + rows)
    scale = np.array([width / columns, height / rows] * 2)
    boxes = np.concatenate([centre - half, centre + half], 1) * scale
    boxes = np.clip(boxes, 0, [width, height] * 2).astype(np.float32)
    found = Found(boxes, labels.astype(np.int64), scores.ravel()[peaks])
    whole = areas(boxes) > 0
    return suppressed(Found(boxes[whole], found.labels[whole], found.scores[whole]))


def named(found: Found, classes: Sequence[str]) -> list[Box]:
    """What was found, as boxes with labels."""
    rows = zip(found.labels, found.scores, found.boxes, strict=True)
    return [Box(classes[label], float(score), *map(float, box)) for label, score, box in rows]


# How wide the peak of an object is, as a share of its sides: the standard deviation is this over 6.
_SPREAD = 0.54
# Cells whose weight is less do not learn a box.
_LEAST_WEIGHT = 0.05


def encode(boxes: Boxes, labels: NDArray[np.int64], rows: int, columns: int, classes: int) -> NDArray[np.float32]:
    r"""What a detector is to say of a picture's objects.

    .. math:: heat_c(x, y) = \max_{objects} \exp\left(-\frac{(x - x_0)^2}{2 \sigma_w^2} - \frac{(y - y_0)^2}{2 \sigma_h^2}\right)

    Args:
        boxes: (n, 4) in pixels of the network's input.
        labels: (n,).
        rows, columns: of the grid.
        classes: how many.

    Returns:
        (rows, columns, classes + 5): the heat of each class, which is 1 where the centre of an object lies; log width and log height in cells; the
        centre less the cell's number, across and down; and the weight of these four.

    Source: Zhou et al., arXiv 1904.07850, section 3; the elliptic peaks, and boxes learned around the centre, of Liu et al., arXiv 1909.00700.
    """
    made = np.zeros((rows, columns, classes + BOX_VALUES + 1), np.float32)
    down, across = np.arange(rows)[:, None], np.arange(columns)[None]
    # The smallest last: where objects lie over each other, the one in front is usually the smaller.
    for index in np.argsort(-areas(boxes), kind="stable"):
        left, top, right, bottom = boxes[index].astype(np.float64) / STRIDE
        width, height = right - left, bottom - top
        x, y = (left + right) / 2, (top + bottom) / 2
        column, row = min(max(int(x), 0), columns - 1), min(max(int(y), 0), rows - 1)
        wide, high = (max(side * _SPREAD / 6, 0.3) for side in (width, height))
        heat = np.exp(-((across - column) ** 2) / (2 * wide**2) - (down - row) ** 2 / (2 * high**2))
        label = labels[index]
        made[..., label] = np.maximum(made[..., label], heat)
        own = heat >= _LEAST_WEIGHT
        place = made[own]
        place[:, classes] = np.log(max(width, 1e-3))
        place[:, classes + 1] = np.log(max(height, 1e-3))
        place[:, classes + 2] = x - np.broadcast_to(across, heat.shape)[own]
        place[:, classes + 3] = y - np.broadcast_to(down, heat.shape)[own]
        place[:, classes + 4] = heat[own] / heat[own].sum()
        made[own] = place
    return made
