"""Average precision of a detector: how much of what it finds is there, over how much of what is there it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebit.scenes.boxes import Boxes, Found, overlaps

# A box is right from this overlap with an object's on.
RIGHT_OVERLAP = 0.5


@dataclass(frozen=True)
class Objects:
    """The objects of a picture.

    Args:
        boxes: float32 (n, 4): left, top, right, bottom.
        labels: int64 (n,), class numbers.
        ignored: bool (n,): boxes that data mark as difficult or as a crowd. They are not learned, and finding one is neither right nor wrong.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


def average_precisions(
    found: Sequence[Found], objects: Sequence[Objects], classes: int, least: float = RIGHT_OVERLAP
) -> NDArray[np.float64]:
    r"""The average precision of each class over all pictures.

    .. math:: AP = \int_0^1 \max_{r' \ge r} p(r') \, dr

    Boxes are taken from the surest to the least sure. Each is right if the object of its class that it overlaps most is not taken yet and the
    overlap is at least `least`.

    Args:
        found: of each picture.
        objects: of each picture.
        classes: how many.
        least: the intersection over union from which a box is right.

    Returns:
        (classes,), 0 to 1; NaN for a class without objects.

    Source: Everingham et al., The Pascal Visual Object Classes Challenge, 2010, section 4.2, with the area under the whole curve as from 2010 on.
    """
    return np.array([_of_class(found, objects, label, least) for label in range(classes)])


def mean_average_precision(precisions: NDArray[np.float64]) -> float:
    """The mean over the classes that have objects; 0 where none has."""
    known = precisions[~np.isnan(precisions)]
    return float(known.mean()) if len(known) else 0.0


def _of_class(found: Sequence[Found], objects: Sequence[Objects], label: int, least: float) -> float:
    there = sum(int((one.labels == label)[~one.ignored].sum()) for one in objects)
    if not there:
        return float("nan")
    scores: list[float] = []
    right: list[bool] = []
    for picture, truth in zip(found, objects, strict=True):
        of_class = truth.labels == label
        ignored = truth.ignored[of_class]
        chosen = np.flatnonzero(picture.labels == label)
        chosen = chosen[np.argsort(-picture.scores[chosen], kind="stable")]
        shares = overlaps(picture.boxes[chosen].astype(np.float64), truth.boxes[of_class].astype(np.float64))
        taken: set[int] = set()
        for index, row in zip(chosen, shares, strict=True):
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and row[best] >= least
            if hit and ignored[best]:
                continue
            scores.append(float(picture.scores[index]))
            right.append(hit and best not in taken)
            if hit:
                taken.add(best)
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right, np.float64)[order]) if scores else np.zeros(0)
    recall = hits / there
    precision = hits / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best_from_here).sum())
