"""A small network, trained and packed once for all tests of the command."""

import numpy as np
import pytest
from PIL import Image

from onebit.cli.main import main


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Own pictures in folders: bright on the left or on the right, of several sizes and kinds."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, dark in (("left", slice(10, 20)), ("right", slice(0, 10))):
        (root / name).mkdir()
        for i in range(30):
            pixels = rng.integers(120, 256, (16, 20, 3), np.uint8)
            pixels[:, dark] //= 8
            image = Image.fromarray(pixels).resize((20 + i, 16 + i))
            image.save(root / name / f"{i}.{'jpg' if i % 2 else 'png'}")
    return root


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, pictures):
    out = tmp_path_factory.mktemp("runs") / "sides"
    words = [
        "train",
        "images",
        "--data",
        str(pictures),
        "--out",
        str(out),
        "--image-size",
        "16,16",
        "--widths",
        "8,8",
        "--epochs",
        "30",
    ]
    assert (
        main([*words, "--augment", "none", "--batch-size", "8", "--threads", "1", "--quiet", "--learning-rate", "4e-3"])
        == 0
    )
    return out


@pytest.fixture(scope="session")
def packed(run_folder):
    assert main(["pack", str(run_folder)]) == 0
    return run_folder.with_suffix(".onebit")
