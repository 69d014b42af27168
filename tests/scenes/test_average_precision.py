"""Average precision: a case worked by hand, and an independent slow formula."""

import numpy as np
import pytest

from onebit.scenes.average_precision import Objects, average_precisions, mean_average_precision
from onebit.scenes.boxes import Found


def objects(*rows, ignored=()):
    """Rows of (label, left, top, right, bottom)."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    flags = np.zeros(len(table), bool)
    flags[list(ignored)] = True
    return Objects(table[:, 1:], table[:, 0].astype(np.int64), flags)


def found(*rows):
    """Rows of (label, score, left, top, right, bottom)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Found(table[:, 2:], table[:, 0].astype(np.int64), table[:, 1])


def test_a_case_by_hand():
    # Two pictures with three objects of class 0. By score: right (0.9), wrong (0.8), right (0.7), a second box of the first object (0.6).
    # Precision: 1, 1/2, 2/3, 2/4 at recall 1/3, 1/3, 2/3, 2/3. The area: 1/3 * 1 + 1/3 * 2/3 = 5/9.
    truth = [objects((0, 0, 0, 10, 10), (0, 20, 20, 30, 30)), objects((0, 5, 5, 15, 15))]
    seen = [
        found((0, 0.9, 0, 0, 10, 10), (0, 0.8, 50, 50, 60, 60), (0, 0.6, 0, 0, 10, 9)),
        found((0, 0.7, 5, 5, 15, 13)),
    ]
    assert average_precisions(seen, truth, 1)[0] == pytest.approx(5 / 9)


def test_ignored_objects_and_classes_without_objects_do_not_count():
    truth = [objects((0, 0, 0, 10, 10), (0, 20, 20, 30, 30), ignored=[1])]
    seen = [found((0, 0.9, 20, 20, 30, 30), (0, 0.8, 0, 0, 10, 10), (1, 0.7, 0, 0, 10, 10))]
    precisions = average_precisions(seen, truth, 2)
    assert precisions[0] == 1 and np.isnan(precisions[1])
    assert mean_average_precision(precisions) == 1
    assert mean_average_precision(np.array([np.nan])) == 0


def test_an_overlap_of_half_is_right_and_below_it_wrong():
    truth = [objects((0, 0, 0, 10, 10))]
    assert average_precisions([found((0, 0.5, 0, 0, 10, 5))], truth, 1)[0] == 1
    assert average_precisions([found((0, 0.5, 0, 0, 10, 4.9))], truth, 1)[0] == 0
    assert average_precisions([found()], truth, 1)[0] == 0


def slow(seen, truth, label):
    """The area under the envelope of precision over recall, from its definition: for each threshold a matching from scratch."""
    scored = sorted({float(s) for one in seen for s, c in zip(one.scores, one.labels, strict=True) if c == label})
    total = sum((one.labels == label).sum() for one in truth)
    points = []
    for threshold in scored:
        right = wrong = 0
        for one, there in zip(seen, truth, strict=True):
            free = [box for box, c in zip(there.boxes, there.labels, strict=True) if c == label]
            every = list(free)
            rows = [i for i in range(len(one.scores)) if one.labels[i] == label and one.scores[i] >= threshold]
            used = set()
            for i in sorted(rows, key=lambda i: -one.scores[i]):
                shares = []
                for box in every:
                    w = min(one.boxes[i][2], box[2]) - max(one.boxes[i][0], box[0])
                    h = min(one.boxes[i][3], box[3]) - max(one.boxes[i][1], box[1])
                    common = max(w, 0) * max(h, 0)
                    both = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one.boxes[i], box))
                    shares.append(common / (both - common))
                best = max(range(len(shares)), key=lambda j: shares[j], default=None)
                if best is not None and shares[best] >= 0.5 and best not in used:
                    used.add(best)
                    right += 1
                else:
                    wrong += 1
        points.append((right / total, right / (right + wrong)))
    recalls = sorted({r for r, _ in points})
    area, before = 0.0, 0.0
    for recall in recalls:
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return area


@pytest.mark.parametrize("seed", range(8))
def test_it_equals_the_slow_formula(seed):
    random = np.random.default_rng(seed)
    truth, seen = [], []
    for _ in range(5):
        count = random.integers(1, 6)
        corner = random.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corner, corner + random.uniform(5, 30, (count, 2))], 1)
        labels = random.integers(0, 2, count)
        truth.append(Objects(boxes.astype(np.float32), labels, np.zeros(count, bool)))
        chosen = random.integers(0, count, 8)
        moved = boxes[chosen] + random.normal(0, 3, (8, 4))
        # No two scores are equal: ties may be taken in any order.
        seen.append(Found(moved.astype(np.float32), random.integers(0, 2, 8), random.random(8).astype(np.float32)))
    made = average_precisions(seen, truth, 2)
    for label in range(2):
        if any((one.labels == label).any() for one in truth):
            assert made[label] == pytest.approx(slow(seen, truth, label))
