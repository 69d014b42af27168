"""Sessions of detectors and of networks for the class of each pixel: packed, loaded, and what they say of pictures of any size."""

import numpy as np
import pytest
import torch
from PIL import Image

import onebit
from onebit.errors import DataError, FormatError, OnebitError, PackError
from onebit.fileformat import load_model
from onebit.models import center_detector, unet
from onebit.runtime import reference
from onebit.scenes.boxes import decode, named
from onebit.tasks.kinds import KINDS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A detector and a U-Net of random weights, and a picture."""
    root = tmp_path_factory.mktemp("pictures")
    torch.manual_seed(0)
    detector = center_detector(2, widths=(4, 8)).eval()
    with torch.no_grad():
        detector.answer.bias[:2] = 0  # scores around a half
    onebit.pack(detector, root / "detection.onebit", onebit.DetectionTask(("cat", "dog"), (16, 24)))
    task = onebit.SegmentationTask(("ground", "cat", "dog"), (16, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    onebit.pack(unet(3, widths=(4, 8)).eval(), root / "segmentation.onebit", task)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    Image.fromarray(pixels).save(root / "photo.png")
    return root


def test_boxes_are_those_of_the_reference_in_pixels_of_the_picture(files):
    session = onebit.load(files / "detection.onebit", precision="float32", threads=1)
    assert isinstance(session, onebit.DetectionSession)
    found = session.detect(files / "photo.png", threshold=0.2)
    model = load_model(files / "detection.onebit")
    with Image.open(files / "photo.png") as image:
        small = np.asarray(image.resize((24, 16), Image.Resampling.BILINEAR))
    grid = reference.run(model.program, model.tensors, small[None], "float32")[0]
    expected = named(decode(grid, 0.2, 90, 40), ("cat", "dog"))
    assert found and [box.label for box in found] == [box.label for box in expected]
    assert np.array([box[1:] for box in found]) == pytest.approx(np.array([box[1:] for box in expected]), abs=1e-3)
    assert max(box.right for box in found) <= 90 and min(box.score for box in found) >= 0.2
    assert session.answer(files / "photo.png").to_dict()["boxes"][0]["label"] in ("cat", "dog")


def test_a_mask_has_the_size_of_the_picture(files):
    session = onebit.load(files / "segmentation.onebit", precision="float32", threads=1)
    assert isinstance(session, onebit.SegmentationSession)
    mask = session.segment(files / "photo.png")
    assert mask.shape == (40, 90) and mask.dtype == np.uint8 and mask.max() < 3
    model = load_model(files / "segmentation.onebit")
    with Image.open(files / "photo.png") as image:
        small = np.asarray(image.resize((24, 16), Image.Resampling.BILINEAR))
    logits = reference.run(model.program, model.tensors, small[None], "float32")[0]
    assert set(np.unique(mask)) <= set(np.unique(logits.argmax(-1)))
    shares = dict(session.answer(files / "photo.png").shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["cat"] == pytest.approx((mask == 1).mean()) if "cat" in shares else not (mask == 1).any()


def test_wrong_arguments_are_said(files):
    session = onebit.load(files / "detection.onebit", threads=1)
    with pytest.raises(OnebitError, match=r"threshold=2: use 0 to 1"):
        session.detect(files / "photo.png", threshold=2)
    with pytest.raises(DataError, match="no such file"):
        session.detect(files / "none.png")
    with pytest.raises(PackError, match=r"names 3 labels and needs outputs of \[4, 4, 7\], but they are \[4, 4, 6\]"):
        onebit.pack(center_detector(2, widths=(4, 8)), files / "x", onebit.DetectionTask(tuple("abc"), (16, 16)))


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
@pytest.mark.parametrize(
    "change, reason",
    [
        ({"labels": 3}, "lacks its labels"),
        ({"labels": []}, "has no labels"),
        ({"labels": ["a", "a"]}, "names 'a' more than once"),
        ({"image_size": [16]}, "needs (height, width)"),
        ({"channels": 2}, "use 1 (grey) or 3 (RGB)"),
        ({"std": [0, 1, 1]}, "needs finite numbers above 0, one for each of 3 channels"),
    ],
)
def test_damaged_tasks_are_one_line(kind, change, reason):
    values = {
        "kind": kind,
        "labels": ["a", "b"],
        "image_size": [16, 16],
        "channels": 3,
        "mean": [0] * 3,
        "std": [1] * 3,
    }
    assert KINDS[kind].from_json(values).to_json()["kind"] == kind
    with pytest.raises(FormatError) as error:
        KINDS[kind].from_json(values | change)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_sizes_and_counts_that_do_not_fit():
    with pytest.raises(DataError, match=r"image_size=\(16, 18\): needs multiples of 4"):
        onebit.DetectionTask(("a",), (16, 18))
    with pytest.raises(DataError, match="has 256 labels: needs at most 255"):
        onebit.SegmentationTask(tuple(map(str, range(256))), (16, 16))
