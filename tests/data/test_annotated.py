"""Annotations of Pascal VOC and COCO as users have them: right ones, and each kind of wrong one with its one line."""

import json

import numpy as np
import pytest
from PIL import Image

from onebit.data.annotated import find_annotated, load_annotated
from onebit.data.coco import read_coco
from onebit.data.load_scenes import load_scenes
from onebit.data.voc import read_voc
from onebit.errors import DataError

BOX = "<object><name>{0}</name><bndbox><xmin>{1}</xmin><ymin>{2}</ymin><xmax>{3}</xmax><ymax>{4}</ymax></bndbox>{5}</object>"


def xml(*boxes, size=(40, 30), name="a.jpg", extra=""):
    inside = "".join(BOX.format(*box, extra) for box in boxes)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{name}</filename>{sides}{inside}</annotation>"


def picture(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (len(path.stem), 90, 30)).save(path)


def voc(root, count=6, lists=("train", "val", "test"), **options):
    """The layout of Pascal VOC, with two pictures in each part."""
    for index in range(count):
        picture(root / "JPEGImages" / f"{index}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        text = xml(("cat" if index % 2 else "dog", 4, 6, 24, 26), **options)
        (root / "Annotations" / f"{index}.xml").write_text(text)
    for place, part in enumerate(lists):
        path = root / "ImageSets" / "Main" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{2 * place}\n{2 * place + 1}  1\n")
    return root


def coco(pictures=("a.jpg",), boxes=((0, 1, [4, 6, 20, 20]),), names=("cat", "dog"), **extra):
    images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(pictures)]
    annotations = [{"id": i, "image_id": p, "category_id": c, "bbox": b, **extra} for i, (p, c, b) in enumerate(boxes)]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def loaded(root, part="train", size=(30, 40), classes=None):
    return load_annotated(find_annotated(root).parts[part], size, 3, classes, str(root))


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_voc_is_read_by_its_own_lists(tmp_path):
    splits, classes = load_scenes("detection", str(voc(tmp_path)), (60, 80), 3)
    assert [len(one) for one in (splits.train, splits.validation, splits.test)] == [2, 2, 2]
    assert splits.own_test and classes == ("cat", "dog")
    # Twice the size, and the boxes with it.
    assert splits.train.truth[0].boxes.tolist() == [[8, 12, 48, 52]]
    assert splits.train.truth[0].labels.tolist() == [1]


def test_voc_in_folders_of_an_archive_and_without_lists(tmp_path):
    voc(tmp_path / "VOCdevkit" / "VOC2007", lists=())
    splits, classes = load_scenes("detection", str(tmp_path), (30, 40), 1, validation_share=0.25)
    assert [len(one) for one in (splits.train, splits.validation, splits.test)] == [4, 1, 1]
    again, _ = load_scenes("detection", str(tmp_path), (30, 40), 1, classes=("bird", "cat", "dog"))
    assert (again.test.inputs == splits.test.inputs).all() and classes == ("cat", "dog")
    assert again.test.truth[0].labels.tolist() == [splits.test.truth[0].labels[0] + 1]


def test_boxes_are_cut_at_the_picture_and_left_out_without_area(tmp_path):
    picture(tmp_path / "a.jpg")
    boxes = [("cat", -5, 10, 20, 90), ("cat", 50, 5, 70, 9), ("dog", 7, 7, 7, 20), ("dog", 9.5, 3, 12, 8)]
    (tmp_path / "a.xml").write_text(xml(*boxes))
    found = loaded(tmp_path)
    assert found.objects[0].boxes.tolist() == [[0, 10, 20, 30], [9.5, 3, 12, 8]]
    assert found.notes == (
        f"{tmp_path}: 2 boxes have no area inside their pictures and are left out, the first in a.xml",
    )


def test_pictures_without_objects_and_difficult_boxes(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "a.xml").write_text(xml())
    (tmp_path / "b.xml").write_text("  \n")  # as some tools write for a picture without objects
    (tmp_path / "c.xml").write_text(xml(("cat", 1, 1, 9, 9), extra="<difficult>1</difficult>"))
    found = loaded(tmp_path)
    assert [len(one) for one in found.objects] == [0, 0, 1]
    assert found.objects[2].ignored.tolist() == [True]


def test_pictures_without_annotations_are_left_out_and_said(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "b.xml").write_text(xml(("cat", 1, 1, 9, 9)))
    assert find_annotated(tmp_path).notes == (f"{tmp_path}: left out 2 pictures without annotations, the first a.jpg",)


def test_a_picture_is_found_by_the_name_in_its_annotation(tmp_path):
    picture(tmp_path / "photo.png")
    (tmp_path / "0001.xml").write_text(xml(("cat", 1, 1, 9, 9), name="C:\\pictures\\..\\photo.png"))
    assert find_annotated(tmp_path).parts["train"][0].picture == tmp_path / "photo.png"


@pytest.mark.parametrize("layout", ["roboflow", "published"])
def test_coco_is_read_with_its_parts(tmp_path, layout):
    for part in ("train", "valid" if layout == "roboflow" else "val"):
        folder = tmp_path / (part if layout == "roboflow" else f"{part}2017")
        for name in "ab":
            picture(folder / f"{name}.jpg")
        content = json.dumps(coco(("a.jpg", "b.jpg"), ((0, 1, [4, 6, 20, 30]), (0, 2, [0, 0, 10, 10]))))
        path = folder / "_annotations.coco.json"
        if layout == "published":
            path = tmp_path / "annotations" / f"instances_{part}2017.json"
            path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    splits, _ = load_scenes("detection", str(tmp_path), (30, 40), 3)
    assert splits.validation is splits.test and splits.own_test  # the only other part is for the test
    assert splits.train.truth[0].boxes.tolist() == [[4, 6, 24, 30], [0, 0, 10, 10]]
    assert [len(one) for one in splits.test.truth] == [2, 0]


def test_crowds_are_ignored_and_unused_categories_left_out(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(coco(names=("cat", "things"), iscrowd=1)))
    found, classes = read_coco(tmp_path / "a.json")
    assert found[0].boxes[0].ignored and classes == ("cat",)


ENTITIES = '<!DOCTYPE annotation [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "text, reason",
    [
        (ENTITIES + xml(("&a;&b;", 1, 1, 5, 5)), "has a DOCTYPE, which could name entities and other files: remove it"),
        (xml(("cat", 1, 1, 5, 5))[:-9], "is not whole XML"),
        ("<html></html>", "its XML is <html>: needs an <annotation> of Pascal VOC"),
        (xml(("cat", 1, 1, "nan", 5)), "object 1, 'cat', has xmax='nan': needs a number of pixels"),
        (xml(("cat", 1, "", 4, 5)), "has ymin='': needs a number of pixels"),
        (xml(("", 1, 1, 5, 5)), "object 1 has no <name>"),
        ('<?xml version="1.0" encoding="nowhere"?><annotation/>', "is not whole XML"),
        ("<annotation>&undefined;</annotation>", "is not whole XML"),
    ],
)
def test_damaged_xml_is_one_line(tmp_path, text, reason):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_voc(path)
    assert reason in one_line(error) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "change, reason",
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "is not an object"),
        ({"images": []}, "lacks its list of annotations"),
        (coco(boxes=((7, 1, [0, 0, 1, 1]),)), "annotations[0] is of image 7, which the file does not have"),
        (coco(boxes=((0, 9, [0, 0, 1, 1]),)), "annotations[0] is of category 9, which the file does not have"),
        (coco(boxes=((0, 1, [0, 0, 1]),)), "annotations[0] has bbox=[0, 0, 1]: needs [left, top, width, height]"),
        (coco(boxes=((0, 1, [0, 0, 1, float("nan")]),)), "needs [left, top, width, height]"),
        (coco(boxes=((0, 1, [0, 0, 1, 10**400]),)), "needs [left, top, width, height]"),
        (coco(names=("cat", "cat")), "two categories of one name"),
    ],
)
def test_damaged_coco_is_one_line(tmp_path, change, reason):
    path = tmp_path / "a.json"
    path.write_text(change if isinstance(change, str) else json.dumps(change))
    with pytest.raises(DataError) as error:
        read_coco(path)
    assert reason in one_line(error) and str(path) in str(error.value)


def test_missing_pictures_are_one_line(tmp_path):
    root = voc(tmp_path / "voc")
    (root / "JPEGImages" / "3.jpg").unlink()
    with pytest.raises(DataError, match="there is no image file named 3; add it, or remove the annotation"):
        find_annotated(root)
    (root / "ImageSets" / "Main" / "train.txt").write_text("0\n77\n")
    with pytest.raises(DataError, match="ImageSets names '77', and Annotations has no 77.xml"):
        find_annotated(root)
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "a.json").write_text(json.dumps(coco()))
    with pytest.raises(DataError, match="names a.jpg, which is not in"):
        find_annotated(tmp_path / "coco")


def test_unknown_classes_and_other_sizes_are_one_line(tmp_path):
    root = voc(tmp_path)
    with pytest.raises(DataError, match="has a box of class 'dog', which was not trained; allowed: cat") as error:
        loaded(root, classes=("cat",))
    one_line(error)
    (root / "Annotations" / "1.xml").write_text(xml(("cat", 1, 1, 5, 5), size=(400, 300)))
    with pytest.raises(DataError, match="is of a picture of 400x300 pixels, and 1.jpg has 40x30: annotate the picture"):
        loaded(root)
    (root / "Annotations" / "1.xml").write_text(xml(("cat", 1, 1, 5, 5), size=(0, 0)))
    assert len(loaded(root)) == 2  # a tool that does not know the size


def test_folders_without_boxes_are_one_line(tmp_path):
    with pytest.raises(DataError, match="has no annotated pictures: needs Annotations/"):
        find_annotated(tmp_path)
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(xml())
    with pytest.raises(DataError, match="has no boxes: annotate some of the pictures"):
        loaded(tmp_path)
    (tmp_path / "a.xml").write_text(xml(("cat", 1, 1, 5, 5)))
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="is not an image"):
        loaded(tmp_path)
    with pytest.raises(DataError, match="at least 2 are needed"):
        picture(tmp_path / "a.jpg")
        load_scenes("detection", str(tmp_path), (30, 40), 3)
    with pytest.raises(DataError, match="there is no such data set: give a folder, or digit-scenes"):
        load_scenes("detection", str(tmp_path / "none"), (30, 40), 3)


def test_digit_scenes_have_boxes_and_masks_that_agree():
    pytest.importorskip("sklearn")
    from onebit.data.digit_scenes import digit_boxes, digit_masks

    boxes, masks = digit_boxes("test"), digit_masks("test")
    assert (boxes.pixels == masks.pixels).all() and len(boxes) == 200
    for objects, mask in zip(boxes.objects, masks.masks, strict=True):
        inside = np.zeros(mask.shape, bool)
        for label, (left, top, right, bottom) in zip(objects.labels, objects.boxes.astype(int), strict=True):
            own = mask[top:bottom, left:right] == label + 1
            assert own.any(0).all() or own.any(0)[[0, -1]].all()  # the box is tight
            inside[top:bottom, left:right] = True
        assert not mask[~inside].any()
    assert not (digit_boxes("train").pixels[:200] == boxes.pixels).all((1, 2, 3)).any()
