"""Detection and segmentation from a folder to drawn pictures; their losses against plain formulas; boxes and masks that move with pixels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import onebit
from onebit.cli.main import main
from onebit.errors import RecipeError
from onebit.scenes.boxes import encode
from onebit.training.batches import draw_moves, move_images
from onebit.training.jobs.picture_objectives import BoxObjective, PixelObjective
from onebit.training.jobs.pictures import move_objects
from onebit.training.recipe import load_recipe

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve pictures of a rectangle: in one folder with an annotation each, in another with a mask each."""
    root = tmp_path_factory.mktemp("rectangles")
    random = np.random.default_rng(0)
    for part in ("boxes", "scenes/images", "scenes/masks"):
        (root / part).mkdir(parents=True)
    for index in range(12):
        name = sorted(COLOURS)[index % 2]
        left, top = (int(n) for n in random.integers(0, 20, 2))
        pixels = np.full((48, 48, 3), 120, np.uint8)
        pixels[top : top + 20, left : left + 24] = COLOURS[name]
        mask = (pixels[..., 0] != 120).astype(np.uint8) * (1 + index % 2)
        for place in ("boxes", "scenes/images"):
            Image.fromarray(pixels).save(root / place / f"{index}.png")
        Image.fromarray(mask).save(root / "scenes/masks" / f"{index}.png")
        sides = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{left + 24}</xmax><ymax>{top + 20}</ymax>"
        text = f"<annotation><object><name>{name}</name><bndbox>{sides}</bndbox></object></annotation>"
        (root / "boxes" / f"{index}.xml").write_text(text)
    (root / "scenes/classes.txt").write_text("ground\nblue\nred\n")
    return root


KEYS = {"epochs": 3, "batch_size": 4, "threads": 1, "channels": 3, "image_size": (32, 32), "augment": "crop-flip"}


def trained(kind, data, out, **keys):
    run = onebit.train(kind, out / kind, progress=False, data=str(data), widths=(8, 16), **KEYS, **keys)
    file = out / f"{kind}.onebit"
    onebit.pack(run.model, file, run.task, run.training)
    return run, file


def test_detection_from_a_folder_to_a_drawn_picture(folders, tmp_path, capsys):
    run, file = trained("detection", folders / "boxes", tmp_path)
    assert run.task.labels == ("blue", "red") and "mAP at 0.5" in str(run)
    figures = onebit.evaluate(file, folders / "boxes")
    # A fifth is for the test; the packed file has a record of which.
    assert figures.part == "test" and figures.count == 2
    assert onebit.evaluate(run).figures["objects"] == 2
    assert onebit.verify(file, run, threads=1).equal
    picture, drawn = str(folders / "boxes" / "0.png"), tmp_path / "drawn.png"
    assert main(["detect", str(file), picture, "--out", str(drawn), "--threshold", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert found["boxes"] and found["boxes"][0]["right"] <= 48
    with Image.open(drawn) as image:
        assert image.size == (288, 288)
    assert main(["classify", str(file), picture]) == 0
    assert main(["plot", "predictions", str(run.path), "--out", str(tmp_path / "p.png")]) == 0
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_segmentation_from_a_folder_to_an_overlay(folders, tmp_path, capsys):
    run, file = trained("segmentation", folders / "scenes", tmp_path, validation_share=0.2)
    assert run.task.labels == ("ground", "blue", "red") and "mIoU" in str(run)
    figures = onebit.evaluate(file, folders / "scenes").figures
    assert 0 < figures["mean_overlap"] <= 1 and set(figures["overlaps"]) <= set(run.task.labels)
    assert onebit.verify(file, run, threads=1).equal
    pictures = [str(folders / "scenes/images" / f"{i}.png") for i in (0, 1)]
    assert (
        main(["segment", str(file), *pictures, "--out", str(tmp_path / "drawn"), "--mask", str(tmp_path / "masks")])
        == 0
    )
    assert "ground" in capsys.readouterr().out
    with Image.open(tmp_path / "masks" / "1.png") as mask:
        assert mask.mode == "P" and mask.size == (48, 48) and np.asarray(mask).max() < 3
    assert (tmp_path / "drawn" / "0.png").exists()
    # What is wrong with a call is one line, and a bad picture does not stop the others.
    assert main(["detect", str(file), pictures[0]]) == 1
    assert "is not a detector: use 'onebit info" in capsys.readouterr().err
    assert main(["segment", str(file), *pictures, "--out", str(tmp_path / "a.png")]) == 1
    assert "for one picture, or a folder for several" in capsys.readouterr().err
    assert main(["segment", str(file), str(tmp_path / "none.png"), pictures[0]]) == 1
    shown = capsys.readouterr()
    assert "no such file" in shown.err and pictures[0] in shown.out
    assert main(["plot", "predictions", str(file), pictures[0], "--out", str(tmp_path / "p.png")]) == 0


def test_both_kinds_have_float_twins_and_say_what_does_not_fit():
    for kind in ("detection", "segmentation"):
        assert load_recipe(kind).override({"binary": False}).model.binary is False
        with pytest.raises(RecipeError, match="image_size"):
            load_recipe(kind).override({"image_size": (60, 61)})
    with pytest.raises(RecipeError, match="a detector learns from boxes alone"):
        load_recipe("detection").override({"teacher": "runs/x"})
    with pytest.raises(RecipeError, match="widths"):
        load_recipe("detection").override({"widths": (8,)})
    with pytest.raises(RecipeError, match="logit_scale"):
        load_recipe("segmentation").override({"logit_scale": 2.0})


def test_the_loss_of_boxes_is_that_of_the_formula():
    torch.manual_seed(0)
    outputs = torch.randn(2, 7, 4, 6)
    target = np.full((2, 3, 5), -1, np.float32)
    target[0, 0], target[0, 1], target[1, 0] = (1, 2, 3, 12, 13), (0, 12, 4, 22, 14), (2, 5, 1, 14, 11)
    made = BoxObjective(classes=3).measured(outputs, torch.from_numpy(target))
    focal = apart = hits = 0.0
    for picture in range(2):
        rows = target[picture][target[picture, :, 0] >= 0]
        wanted = encode(rows[:, 1:], rows[:, 0].astype(int), 4, 6, 3)
        for r in range(4):
            for c in range(6):
                cell = outputs[picture, :, r, c].double().numpy()
                for label in range(3):
                    p, y = 1 / (1 + np.exp(-cell[label])), wanted[r, c, label]
                    focal -= (1 - p) ** 2 * np.log(p) if y == 1 else (1 - y) ** 4 * p**2 * np.log(1 - p)
                    hits += y == 1 and cell[:3].argmax() == label
                apart += wanted[r, c, 7] * np.abs(cell[3:] - wanted[r, c, 3:7]).sum()
    assert int(made.count) == 3 and int(made.right) == hits
    assert float(made.loss) == pytest.approx((focal + apart) / 3, rel=1e-5)


def test_pictures_without_objects_have_a_finite_loss():
    outputs = torch.randn(1, 7, 4, 4, requires_grad=True)
    made = BoxObjective(classes=3).measured(outputs, torch.full((1, 2, 5), -1.0))
    made.loss.backward()
    assert int(made.count) == 0 and torch.isfinite(outputs.grad).all() and outputs.grad.any()


def test_the_loss_of_pixels_leaves_out_255():
    torch.manual_seed(0)
    outputs, mask = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5), dtype=torch.uint8)
    mask[0, :2] = 255
    made = PixelObjective().measured(outputs, mask)
    kept = mask != 255
    rows, classes = outputs.permute(0, 2, 3, 1)[kept], mask[kept].long()
    assert int(made.count) == int(kept.sum())
    assert float(made.loss) == pytest.approx(float(-rows.log_softmax(1)[range(len(rows)), classes].mean()), rel=1e-5)
    assert int(made.right) == int((rows.argmax(1) == classes).sum())
    assert float(PixelObjective().measured(outputs, torch.full_like(mask, 255)).loss) == 0


@pytest.mark.parametrize("how", ["flip", "crop-flip"])
def test_boxes_and_masks_move_with_their_pictures(how):
    random = np.random.default_rng(3)
    count = 60
    pixels, masks = np.zeros((count, 32, 40, 1), np.uint8), np.zeros((count, 32, 40), np.uint8)
    objects = np.full((count, 2, 5), -1, np.float32)
    for index in range(count):
        left, top = random.integers(0, 32), random.integers(0, 24)
        objects[index, 0] = (1, left, top, left + 8, top + 8)
        pixels[index, top : top + 8, left : left + 8] = 200
    masks[:] = pixels[..., 0] // 200
    moves = draw_moves(how, count, 32, 40, random)
    made, boxes = move_images(pixels, moves)[..., 0], move_objects(objects, moves, 32, 40)
    moved = move_images(masks[..., None], moves, 255)[..., 0]
    assert ((moved == 1) == (made == 200)).all() and (moved == 255).any() == (how == "crop-flip")
    gone = 0
    for picture, box in zip(made, boxes[:, 0], strict=True):
        rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
        if box[0] < 0:  # less than a quarter of it is left
            gone += 1
            assert (picture > 0).sum() < 16
            continue
        assert box[1:].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert (boxes[:, 1, 0] == -1).all() and gone < count / 4
