"""Boxes: overlaps against an independent formula, suppression, and the grid there and back."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onebit.scenes.boxes import BOX_VALUES, Found, decode, encode, named, overlaps, suppressed


def counted_overlap(a, b, side=32):
    """The overlap of boxes with whole sides, by counting pixels."""
    grids = []
    for left, top, right, bottom in (a, b):
        grid = np.zeros((side, side), bool)
        grid[top:bottom, left:right] = True
        grids.append(grid)
    union = (grids[0] | grids[1]).sum()
    return (grids[0] & grids[1]).sum() / union if union else 0.0


sides = st.tuples(*[st.integers(0, 15)] * 2, *[st.integers(16, 31)] * 2)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(sides, min_size=1, max_size=4), st.lists(sides, min_size=1, max_size=4))
def test_overlaps_are_those_of_counted_pixels(ours, theirs):
    found = overlaps(np.array(ours, np.float64), np.array(theirs, np.float64))
    assert found == pytest.approx(np.array([[counted_overlap(a, b) for b in theirs] for a in ours]))


def test_boxes_without_area_overlap_nothing():
    flat = np.array([[3.0, 3, 3, 9], [5, 5, 2, 2]])
    assert not overlaps(flat, flat).any()


def test_suppression_keeps_the_surest_of_each_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    found = suppressed(Found(boxes, np.array([0, 0, 1, 0]), np.array([0.8, 0.9, 0.5, 0.3], np.float32)))
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found.labels.tolist() == [0, 1, 0]


def grid_of(boxes, labels, rows=16, columns=24, classes=3):
    """What a perfect detector gives: logits that are highest where the heat is, and the boxes of the target."""
    target = encode(np.array(boxes, np.float32), np.array(labels), rows, columns, classes)
    heat = target[..., :classes]
    logits = np.where(heat >= 1, 6, np.log(np.maximum(heat, 1e-6)) - 2)
    return np.concatenate([logits, target[..., classes : classes + BOX_VALUES]], -1).astype(np.float32)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(8, 30), st.floats(8, 30), st.integers(0, 2)),
        max_size=6,
        unique_by=lambda one: one[:2],
    )
)
def test_what_is_encoded_is_decoded(objects):
    # One object at most in each of nine fields of 32x21 pixels, so that no centre hides another.
    boxes, labels = [], []
    for column, row, width, height, label in objects:
        x, y = 32 * column + 16, 21.3 * row + 10.6
        boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        labels.append(label)
    boxes = np.clip(np.array(boxes, np.float64).reshape(-1, 4), 0, [96, 64, 96, 64])
    found = decode(grid_of(boxes, labels), 0.5, 96, 64)
    assert len(found.scores) == len(boxes)
    if len(boxes):
        shares = overlaps(found.boxes.astype(np.float64), boxes)
        assert shares.max(1).min() > 0.99
        assert found.labels.tolist() == [labels[i] for i in shares.argmax(1)]


def test_boxes_are_scaled_to_the_picture_and_cut_at_its_sides():
    grid = grid_of([[-20, 8, 20, 40]], [1])
    found = decode(grid, 0.5, 960, 128)  # ten times as wide, twice as high
    assert found.boxes[0].tolist() == pytest.approx([0, 16, 200, 80], abs=0.01)
    box = named(found, ("cat", "dog", "hen"))[0]
    assert (box.label, box.left, box.bottom) == ("dog", 0, pytest.approx(80, abs=0.01))


def test_heat_is_one_at_the_centre_and_falls_with_the_sides():
    heat = encode(np.array([[16, 24, 56, 32]], np.float32), np.array([2]), 16, 24, 3)[..., 2]
    assert heat[7, 9] == 1 == heat.max()
    assert heat[7, 10] > heat[8, 9]  # the box is wider than high
    sigma = 0.54 * 10 / 6
    assert heat[7, 11] == pytest.approx(np.exp(-(2**2) / (2 * sigma**2)))


def test_no_number_breaks_decoding():
    grid = np.full((4, 4, 7), np.nan, np.float32)
    assert len(decode(grid, 0.0, 16, 16).scores) <= 16 * 3
    grid[:] = 1e30
    found = decode(grid, 0.5, 16, 16)
    assert np.isfinite(found.boxes).all() and (found.boxes <= 16).all()
    grid[:] = -np.inf
    assert len(decode(grid, 0.01, 16, 16).scores) == 0
