"""Python in the pages and in the docstrings runs, in a folder that has the files which they name."""

import doctest
import importlib
import pkgutil
import shutil
from pathlib import Path

import numpy as np
import pages
import pytest
import torch
from PIL import Image
from torch import nn

import onebit
from onebit import pretrained
from onebit.models import center_detector, conv_classifier, ds_cnn, series_network, text_classifier, unet
from onebit.schemes import BinaryWeightNetwork, Nested
from onebit.sound import write_wav
from onebit.tasks.series import SeriesClassification, SeriesRegression
from onebit.tasks.sound import SoundTask
from onebit.tasks.text_classes import TextClassification
from onebit.text import train_vocabulary

BLOCKS = [(page, block) for page in pages.PAGES for block in pages.blocks(page) if block.language == "python"]

# Blocks by a text in them, and docstrings by name, that are not run, and why.
ONLY_COMPILED = {
    "GPT2LMHeadModel": "makes a model of 124 million parameters",
    "openai.OpenAI(": "asks a server",
    'device="cuda"': "needs a GPU",
}
NOT_RUN = {"onebit.scoring.run.score": "starts Ray"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The packed files, pictures, texts and runs that pages and docstrings name."""
    root = tmp_path_factory.mktemp("docs")
    (root / "runs").mkdir()
    torch.manual_seed(0)
    keys = {"epochs": 1, "train_limit": 100, "widths": (4, 4), "threads": 1}
    run = onebit.train("digits", root / "runs" / "digits", progress=False, **keys)
    onebit.pack(run.model, root / "runs" / "digits.onebit", run.task, run.training)
    for name, labels in (("runs/images", ("cat", "dog")), ("digits", tuple("0123456789"))):
        onebit.pack(network(len(labels)), root / f"{name}.onebit", onebit.ImageTask(labels=labels, image_size=(16, 16)))
    detector = center_detector(2, widths=(4, 8))
    onebit.pack(detector, root / "detection.onebit", onebit.DetectionTask(("cat", "dog"), (16, 16)))
    onebit.pack(
        unet(2, widths=(4, 8)), root / "segmentation.onebit", onebit.SegmentationTask(("ground", "cat"), (16, 16))
    )
    adaptive = conv_classifier(num_classes=2, widths=(8, 8), exits=(1,), hidden=(8,), scheme=Nested(2))
    onebit.pack(adaptive, root / "runs" / "adaptive.onebit", onebit.ImageTask(labels=("a", "b"), image_size=(16, 16)))
    whole = (root / "runs" / "adaptive.onebit").read_bytes()
    (root / "half-of-it.onebit").write_bytes(whole[:-1])
    shutil.copy(pretrained.find("books"), root / "runs" / "tiny.onebit")
    for name in ("photo.jpg", "three.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(root / name)
    measurements(root)
    sounds(root)
    return root


def sounds(root: Path) -> None:
    """Networks of words, and recordings."""
    for name in ("keywords", "runs/keywords"):
        onebit.pack(ds_cnn(2, 4, 1, BinaryWeightNetwork()).eval(), root / f"{name}.onebit", SoundTask(("yes", "no")))
    for word in ("yes", "no"):
        write_wav(root / f"{word}.wav", np.sin(np.arange(4000)), 8000)


def measurements(root: Path) -> None:
    """Networks of three columns, and recordings of them."""
    common = {"columns": ("x", "y", "z"), "length": 32, "stride": 16, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    classes, speed = SeriesClassification(**common, labels=("normal", "bearing")), SeriesRegression(**common)
    for name, task, outputs in (
        ("series", classes, 2),
        ("runs/machine", classes, 2),
        ("speed", speed, 1),
        ("runs/oven", speed, 1),
    ):
        model = series_network(3, outputs, 32, (8,), scheme=BinaryWeightNetwork())
        onebit.pack(model.eval(), root / f"{name}.onebit", task)
    vocabulary = "\n".join(train_vocabulary(["one bit"], 300).vocabulary)
    texts = TextClassification(("code", "prose"), vocabulary, 16)
    classifier = text_classifier(2, vocabulary.count("\n") + 1, 16, blocks=1, features=32)
    onebit.pack(classifier.eval(), root / "runs" / "kinds.onebit", texts)
    (root / "monday.csv").write_text("time,x,y,z\n" + "0,1,2,3\n" * 48)
    (root / "walk.csv").write_text("time,x,y,z,activity\n" + "0,1,2,3,rest\n" * 48)


def network(classes: int = 2) -> nn.Module:
    return conv_classifier(num_classes=classes, widths=(8, 8), hidden=(8,))


def what_readers_have() -> dict[str, object]:
    """A model, a way to train it, pixels."""
    return {
        "MyNetwork": network,
        "model": network(),
        "train": lambda model: None,
        "samples": np.sin(np.arange(4000)).astype(np.float32),
        "rows": np.zeros((48, 3), np.float32),
        "tokens": np.zeros((2, 5), np.int64),
        "windows": np.zeros((2, 32, 3), np.float32),
        "pixels": np.zeros((1, 16, 16, 3), np.uint8),
        "torch": torch,
    }


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=lambda x: getattr(x, "name", getattr(x, "line", None)))
def test_blocks_run(page, block, folder, monkeypatch):
    code = compile("\n" * block.line + block.text, pages.name_of(page), "exec")
    if any(text in block.text for text in ONLY_COMPILED):
        return
    monkeypatch.chdir(folder)
    exec(code, what_readers_have())


def test_what_is_only_compiled_is_there():
    for text in ONLY_COMPILED:
        assert any(text in block.text for _, block in BLOCKS)


def examples() -> list[doctest.DocTest]:
    found = []
    for module in pkgutil.walk_packages(onebit.__path__, "onebit."):
        if module.name.rpartition(".")[2] not in ("__main__", "_engine") and not module.name.startswith("onebit.gpu."):
            found += doctest.DocTestFinder().find(importlib.import_module(module.name))
    return [example for example in found if example.examples]


EXAMPLES = examples()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_docstrings_run(example, folder, monkeypatch):
    if example.name in NOT_RUN:
        pytest.skip(NOT_RUN[example.name])
    monkeypatch.chdir(folder)
    example.globs.update(onebit=onebit, torch=torch, nn=nn)
    failures: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    doctest.DocTestRunner(optionflags=flags).run(example, out=failures.append)
    assert not failures, "".join(failures)


def test_there_are_examples():
    assert {"onebit.runtime.session.load", "onebit.nn.linear.BinaryLinear", *NOT_RUN} <= {e.name for e in EXAMPLES}
