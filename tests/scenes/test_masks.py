"""Figures of masks against scikit-learn's, drawings, and pictures scaled as a whole."""

import numpy as np
import pytest
from PIL import Image

from onebit.scenes.boxes import Box
from onebit.scenes.drawing import colours, draw_boxes, draw_mask, frame_colours, palette_image
from onebit.scenes.mask_figures import MaskMetrics
from onebit.scenes.pictures import load_whole, scaled, scaled_mask


def test_shares_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    made = MaskMetrics(4)
    found, true = random.integers(0, 3, (2, 3, 8, 9)).astype(np.uint8)
    true[0, :2] = 255
    for one, other in zip(found, true, strict=True):
        made.add(one, other)
    counted = true != 255
    assert made.shares[:3] == pytest.approx(
        metrics.jaccard_score(true[counted], found[counted], average=None, labels=[0, 1, 2])
    )
    assert np.isnan(made.shares[3])
    assert made.mean_share == pytest.approx(made.shares[:3].mean())
    assert made.accuracy == pytest.approx((found == true)[counted].mean())


def test_nothing_counted_is_nothing_right():
    made = MaskMetrics(2)
    made.add(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert made.mean_share == made.accuracy == 0


def test_colours_are_pascal_vocs():
    # The first of the palette that the challenge's masks have.
    assert colours(5).tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert len({tuple(c) for c in colours(255).tolist()}) == 255
    assert len(set(frame_colours(80))) == 80


def test_a_frame_is_where_the_box_is():
    pixels = np.zeros((300, 400, 3), np.uint8)
    drawn = np.asarray(draw_boxes(pixels, [Box("a\x1b", 0.5, 100, 120, 200, 220)], ("a\x1b", "b")))
    colour = frame_colours(2)[0]
    assert drawn.shape == (300, 400, 3)
    assert tuple(drawn[219, 150]) == colour == tuple(drawn[160, 199])
    assert not drawn[150:200, 110:190].any() and not drawn[225:].any()


def test_small_pictures_are_drawn_larger():
    pixels = np.full((64, 100, 1), 7, np.uint8)
    assert draw_boxes(pixels, [], ("a",)).size == (400, 256)
    assert draw_mask(pixels, np.zeros((64, 100), np.uint8), 2).size == (400, 256)


def test_a_mask_colours_what_is_not_background():
    pixels = np.full((256, 256, 3), 100, np.uint8)
    mask = np.zeros((256, 256), np.uint8)
    mask[:10], mask[10:20] = 1, 255
    drawn = np.asarray(draw_mask(pixels, mask, 2))
    assert tuple(drawn[5, 5]) == (115, 45, 45)  # 0.45 * 100 + 0.55 * (128, 0, 0)
    assert tuple(drawn[15, 5]) == tuple(drawn[200, 5]) == (100, 100, 100)


def test_a_palette_image_keeps_its_numbers(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette_image(mask, 12).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P" and (np.asarray(image) == mask).all()


def test_pictures_are_scaled_as_a_whole(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 30:] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    made, size = load_whole(tmp_path / "a.png", (20, 20), 3)
    assert size == (20, 60) and made.shape == (20, 20, 3)
    assert made[0, 0, 0] == 0 and made[0, 19, 0] == 200  # nothing is cut off
    assert scaled(pixels[..., :1], (10, 30)).shape == (10, 30, 1)
    mask = (pixels[..., 0] // 200).astype(np.uint8)
    assert set(np.unique(scaled_mask(mask, (7, 13)))) == {0, 1}
