"""Scenes of handwritten digits, made on the spot: pictures with boxes, or with a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onebit.data.images import ImageSet, split_images
from onebit.data.named import load_digits
from onebit.data.scenes import BoxSet, MaskSet
from onebit.scenes.average_precision import Objects

NAME = "digit-scenes"
# Height and width of a scene, and how many are made for training and for the test.
SIDE = 64
TRAIN_SCENES, TEST_SCENES = 800, 200
# Sides of a digit in pixels, and how many digits a scene has at most. Fewer fit if places run out.
_SIDES = (16, 28)
_MOST_DIGITS = 5
_TRIES = 20
# Ink of a digit at least so dark, of 255, belongs to it.
_INK = 64
# The share of the digits that only scenes of the test show.
_TEST_DIGITS = 0.2


def digit_boxes(part: str) -> BoxSet:
    """Grey scenes of 64x64 pixels with a box around each digit; the classes are "0" to "9".

    Args:
        part: "train" or "test"; a digit appears in scenes of one part only.

    Raises:
        DataError: scikit-learn is missing.
    """
    pixels, objects, _ = _scenes(part)
    return BoxSet(pixels, objects, tuple(str(digit) for digit in range(10)))


def digit_masks(part: str) -> MaskSet:
    """Grey scenes of 64x64 pixels with the class of each pixel: "background", then "0" to "9"; otherwise as `digit_boxes`."""
    pixels, _, masks = _scenes(part)
    return MaskSet(pixels, masks, ("background", *(str(digit) for digit in range(10))))


def _scenes(part: str) -> tuple[NDArray[np.uint8], tuple[Objects, ...], NDArray[np.uint8]]:
    train, test = split_images(load_digits(None, 1), _TEST_DIGITS, 0, NAME)
    digits, count = (test, TEST_SCENES) if part == "test" else (train, TRAIN_SCENES)
    random = np.random.default_rng(len(digits))
    pixels = np.empty((count, SIDE, SIDE, 1), np.uint8)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    objects = []
    for index in range(count):
        pixels[index, ..., 0], one = _scene(digits, random, masks[index])
        objects.append(one)
    return pixels, tuple(objects), masks


def _scene(digits: ImageSet, random: np.random.Generator, mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Objects]:
    """One scene: its pixels (height, width) and its objects. The mask is written into the array that is given."""
    # A ground of two greys that change slowly, with noise on it.
    corners = Image.fromarray(random.integers(0, 90, (3, 3), np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    scene = np.asarray(corners, np.float32) + random.normal(0, 8, (SIDE, SIDE)).astype(np.float32)
    boxes: list[list[int]] = []
    labels: list[int] = []
    taken = np.zeros((SIDE, SIDE), bool)
    for _ in range(random.integers(1, _MOST_DIGITS + 1)):
        chosen = int(random.integers(len(digits)))
        side = int(random.integers(_SIDES[0], _SIDES[1] + 1))
        image = Image.fromarray(digits.pixels[chosen, ..., 0]).resize((side, side), Image.Resampling.BICUBIC)
        ink = np.asarray(image, np.uint8)
        is_ink = ink >= _INK
        down, across = np.flatnonzero(is_ink.any(1)), np.flatnonzero(is_ink.any(0))
        for _ in range(_TRIES):
            top, left = (int(n) for n in random.integers(0, SIDE - side + 1, 2))
            place = np.s_[top : top + side, left : left + side]
            if not taken[place].any():
                break
        else:
            continue
        taken[place] = True
        label = int(digits.labels[chosen])
        shade = random.uniform(0.75, 1.0)
        scene[place] = np.maximum(scene[place], shade * ink)
        mask[place][is_ink] = label + 1
        boxes.append([left + across[0], top + down[0], left + across[-1] + 1, top + down[-1] + 1])
        labels.append(label)
    made = Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.zeros(len(labels), bool))
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8), made
