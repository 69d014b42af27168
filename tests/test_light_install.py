"""`pip install onebit` brings NumPy, safetensors and Pillow, and they are enough to run packed files."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]

# Of everything else that is installed here nothing can be imported, and nothing is connected to.
LIGHT = """
import sys
KNOWN = {*sys.stdlib_module_names, "numpy", "PIL", "safetensors", "onebit"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in KNOWN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(event)
sys.meta_path.insert(0, Refuse())
sys.addaudithook(refuse)
"""
COMMAND = LIGHT + "from onebit.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"


def python(code, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )


def required(table):
    return {re.match(r"[\w.-]+", entry)[0].lower() for entry in table}


def test_the_package_depends_on_three_others():
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("needs the repository")
    project = tomllib.loads(path.read_text())["project"]
    assert required(project["dependencies"]) == {"numpy", "safetensors", "pillow"}
    extras = project["optional-dependencies"]
    assert "tokenizers" in required(extras["train"])
    assert required(extras["chat"]) == {"tokenizers", "jinja2", "huggingface_hub"}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("It was a dark and stormy night; wörter 漢字 😀.\n" * 20, "utf-8")
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A packed network, and pictures for it."""
    torch = pytest.importorskip("torch")
    from onebit.image_task import ImageTask
    from onebit.models import conv_classifier
    from onebit.packing import pack

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("images")
    pack(conv_classifier(3, 3, (16, 24)), folder / "a.onebit", ImageTask(("ant", "bee", "cat"), (12, 10)))
    for label in ("ant", "bee", "cat"):
        (folder / "set" / label).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(folder / "set" / label / name)
    return folder


def test_text_is_written_and_measured(text):
    for words in (
        ["generate", "books-10m", "It was wörter", "--max-new-tokens", "3", "--seed", "1"],
        ["evaluate", "books-10m", "--data", text],
        ["info", "books-10m", "--engine"],
    ):
        done = python(COMMAND, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_images_are_classified_and_measured(classifier):
    packed, pictures = classifier / "a.onebit", classifier / "set"
    for words in (
        ["classify", packed, pictures / "ant" / "a.png"],
        ["evaluate", packed, "--data", pictures],
        ["info", packed],
    ):
        done = python(COMMAND, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_in_python_too():
    done = python(
        LIGHT + "import onebit\nsession = onebit.load('books-10m')\n"
        "print(len(session.tokenizer.encode('It was')), session.score('It was')[0][0])\n"
        "print(session.tokenizer.decode(session.tokenizer.encode('caf\\u00e9')).encode())\n"
    )
    assert (done.stdout, done.stderr) == ("2 It\nb'caf\\xc3\\xa9'\n", "")


def test_what_is_missing_is_named():
    done = python(COMMAND, "train", "tiny", "--data", "book.txt")
    assert done.returncode == 1
    assert 'pip install "onebit[train]"' in done.stderr
    done = python(LIGHT + "from onebit.text import train_vocabulary\ntrain_vocabulary(['a'], 300)")
    assert done.stderr.splitlines()[-1] == (
        "onebit.errors.DataError: [vocabulary] is trained with Hugging Face tokenizers: "
        'pip install "onebit[train]", or use a vocab.txt'
    )
