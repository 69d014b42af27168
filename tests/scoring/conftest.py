"""A classifier and a language model of random bits, and pictures and texts for them."""

import numpy as np
import pytest
import torch
from PIL import Image

import onebit
from onebit.models import conv_classifier, language_decoder
from onebit.text import train_vocabulary

CORPUS = "the cat sat on the mat, and the dog sat on the cat; nobody knew why. wörter 😀!\n"
CONTEXT = 16
PICTURES = 23


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "sides.onebit"
    onebit.pack(conv_classifier(3, 4, (4, 8)), path, onebit.ImageTask(("left", "right", "top", "bottom"), (12, 12)))
    return path


@pytest.fixture(scope="session")
def language(tmp_path_factory):
    torch.manual_seed(0)
    task = train_vocabulary([CORPUS * 50], 300)
    sizes = {"vocabulary": 300, "context": CONTEXT, "blocks": 1, "features": 16, "heads": 2, "head": (16, 16)}
    path = tmp_path_factory.mktemp("models") / "cat.onebit"
    onebit.pack(language_decoder({**sizes, "vocabulary": len(task.vocabulary)}), path, task)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """PNG and JPEG in folders, among them one that is no image; a hidden file and a text that are left out."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        folder = root / f"part{i % 3}"
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (14 + i, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.{'jpg' if i % 2 else 'PNG'}")
    (root / "part1" / "broken.jpg").write_bytes(b"nothing")
    (root / "part1" / ".hidden.png").write_bytes(b"nothing")
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Text files, one longer than the context; among them an empty, a binary and a Latin-1 one."""
    root = tmp_path_factory.mktemp("texts")
    (root / "short.txt").write_text("the cat sat")
    (root / "long.txt").write_text(CORPUS * 3)
    (root / "empty.txt").write_text(" \n")
    (root / "binary.txt").write_bytes(b"\0" * 100)
    (root / "latin.txt").write_bytes("señor".encode("latin-1"))
    return root
