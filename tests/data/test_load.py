"""Every kind of data, made as small real files, and one test for each error."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from onebit.data import ImageSet, load_images, load_test_images
from onebit.data.images import limit_images, split_images
from onebit.errors import DataError
from onebit.images import ImageTask

rng = np.random.default_rng(0)


def fill(folder, count, size=(12, 10), suffix=".png"):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(folder / f"{i}{suffix}")


def test_folders_are_split_by_class_and_seed(tmp_path):
    fill(tmp_path / "cat", 10)
    fill(tmp_path / "dog", 5, suffix=".jpg")
    splits = load_images(str(tmp_path), (8, 8))
    assert splits.train.classes == ("cat", "dog")
    assert np.bincount(splits.test.labels).tolist() == [2, 1]
    assert np.bincount(splits.train.labels).tolist() == [8, 4]
    assert splits.train.pixels.shape == (12, 8, 8, 3)
    again = load_images(str(tmp_path), (8, 8))
    assert np.array_equal(again.test.pixels, splits.test.pixels)
    other = load_images(str(tmp_path), (8, 8), seed=1)
    assert not np.array_equal(other.test.pixels, splits.test.pixels)


def test_train_and_test_folders(tmp_path):
    for part, count in (("train", 6), ("test", 3)):
        for name in "ab":
            fill(tmp_path / part / name, count)
    splits = load_images(str(tmp_path), None, 1, validation_share=0.34)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (8, 4, 6)
    assert splits.train.pixels.shape[1:] == (10, 12, 1)  # the images' own size


def test_test_images_are_matched_by_class_name(tmp_path):
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            fill(tmp_path / part / name, 2)
    images = load_test_images(str(tmp_path), ImageTask(("cow", "bee", "ant"), (8, 8)), 0)
    assert sorted(images.labels.tolist()) == [1, 1, 2, 2]
    with pytest.raises(DataError, match=r"were not trained: ant; allowed: bee, cow"):
        load_test_images(str(tmp_path), ImageTask(("bee", "cow"), (8, 8)), 0)


def test_many_files_are_kept_decoded_and_a_change_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr("onebit.data.folder.CACHE_FROM_FILES", 4)
    fill(tmp_path / "data" / "a", 5)
    fill(tmp_path / "data" / "b", 5)
    first = load_images(str(tmp_path / "data"), (8, 8))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert not (tmp_path / "other").exists()
    second = load_images(str(tmp_path / "data"), (8, 8))
    assert np.array_equal(first.train.pixels, second.train.pixels)
    Image.new("RGB", (8, 8), "white").save(tmp_path / "data" / "a" / "0.png")
    third = load_images(str(tmp_path / "data"), (8, 8))
    assert not np.array_equal(
        np.concatenate([first.train.pixels, first.test.pixels]), np.concatenate([third.train.pixels, third.test.pixels])
    )


def write_idx(path, array, zipped):
    content = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def idx_folder(folder, zipped, count=12):
    folder.mkdir()
    made = {}
    for part in ("train", "t10k"):
        made[part] = rng.integers(0, 256, (count, 7, 5), np.uint8), (np.arange(count) % 4).astype(np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte", made[part][0], zipped)
        write_idx(folder / f"{part}-labels-idx1-ubyte", made[part][1], zipped)
    return made


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path, zipped):
    made = idx_folder(tmp_path / "mnist", zipped)
    splits = load_images(str(tmp_path / "mnist"), channels=1)
    assert np.array_equal(splits.train.pixels[..., 0], made["train"][0])
    assert np.array_equal(splits.test.labels, made["t10k"][1])
    assert load_images(str(tmp_path / "mnist"), (14, 10), 3).train.pixels.shape == (12, 14, 10, 3)


def test_fashion_classes_have_their_names(tmp_path):
    idx_folder(tmp_path / "fashion", True)
    assert load_images(str(tmp_path / "fashion"), channels=1).train.classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "t10k-labels-idx1-ubyte").unlink(), "lacks t10k-labels-idx1-ubyte"),
        (
            lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x0d\1\0\0\0\0"),
            "not an IDX file of unsigned bytes",
        ),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\3\0\0"), "is truncated"),
        (
            lambda f: (f / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1\0\0\0\5ab"),
            "claims 5 bytes of data but has 2",
        ),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\x1f\x8b broken"), "cannot be read"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, damage, message):
    idx_folder(tmp_path / "mnist", False)
    damage(tmp_path / "mnist")
    with pytest.raises(DataError, match=message):
        load_images(str(tmp_path / "mnist"), channels=1)


def test_digits():
    splits = load_images("digits", channels=1)
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.train.pixels.shape[1:] == (8, 8, 1)
    assert splits.train.pixels.max() == 255


def test_a_hub_set_through_hugging_face_datasets(tmp_path, monkeypatch):
    import datasets

    from onebit.data import named

    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    for part in ("train", "test"):
        images = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)) for _ in range(4)]
        table = datasets.Dataset.from_dict({"img": images, "label": [0, 1, 0, 1]}, features=features)
        table.to_parquet(tmp_path / f"{part}.parquet")
    known = named.HUB_SETS["cifar10"]._replace(path=str(tmp_path))
    monkeypatch.setitem(named.HUB_SETS, "cifar10", known)
    splits = load_images("cifar10")
    assert splits.train.classes == ("cat", "dog")
    assert splits.train.pixels.shape == (4, 6, 6, 3)
    assert splits.test.labels.tolist() == [0, 1, 0, 1]
    broken = [{"bytes": b"nothing", "path": None}] * 2
    plain = datasets.Features(
        {"img": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}, "label": features["label"]}
    )
    datasets.Dataset.from_dict({"img": broken, "label": [0, 1]}, features=plain).cast(features).to_parquet(
        tmp_path / "train.parquet"
    )
    with pytest.raises(DataError, match=r"\[cifar10\] image 0 of train cannot be used"):
        load_images("cifar10")


def test_a_hub_set_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    from onebit.data import named

    monkeypatch.setitem(named.HUB_SETS, "mnist", named.HUB_SETS["mnist"]._replace(path=str(tmp_path / "nothing")))
    with pytest.raises(DataError, match=r"\[mnist\] cannot be loaded .*go online once .*--data PATH") as caught:
        load_images("mnist", channels=1)
    assert "\n" not in str(caught.value)


def test_errors_of_folders(tmp_path):
    with pytest.raises(DataError, match="there is no such data set: give a folder, or one of digits, cifar10"):
        load_images(str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        load_images(str(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no folders"):
        load_images(str(tmp_path / "empty"))
    fill(tmp_path / "one" / "cat", 3)
    with pytest.raises(DataError, match="one class only, 'cat'"):
        load_images(str(tmp_path / "one"))
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(DataError, match="dog.* contains no images"):
        load_images(str(tmp_path / "one"))
    fill(tmp_path / "few" / "a", 1)
    fill(tmp_path / "few" / "b", 3)
    with pytest.raises(DataError, match="class 'a' has 1 image"):
        load_images(str(tmp_path / "few"))


def test_broken_images_are_named_and_counted(tmp_path):
    fill(tmp_path / "a", 4)
    fill(tmp_path / "b", 4)
    (tmp_path / "a" / "1.png").write_bytes(b"nothing")
    (tmp_path / "b" / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/1.png: is not an image.*\(2 files in all do not\)"):
        load_images(str(tmp_path), (8, 8))


def test_limits_are_balanced():
    labels = np.array([0] * 50 + [1] * 10, np.int64)
    images = ImageSet(np.zeros((60, 1, 1, 1), np.uint8), labels, ("a", "b"))
    assert np.bincount(limit_images(images, 20, 0).labels).tolist() == [10, 10]
    assert np.bincount(limit_images(images, 30, 0).labels).tolist() == [20, 10]
    assert limit_images(images, None, 0) is images


def test_splits_keep_every_image_once():
    images = ImageSet(np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1), np.arange(30) % 3, ("a", "b", "c"))
    rest, share = split_images(images, 0.3, 0, "x")
    assert sorted([*rest.pixels.ravel(), *share.pixels.ravel()]) == list(range(30))
    assert np.bincount(share.labels).tolist() == [3, 3, 3]
