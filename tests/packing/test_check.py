"""What loading would refuse, packing refuses before it writes."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import onebit
from onebit.errors import OnebitError, PackError
from onebit.nn import BinaryLinear
from onebit.packing import pack
from onebit.text import TextTask, train_vocabulary


def network(outputs=3, inputs=192):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), BinaryLinear(inputs, outputs))


def task(labels):
    return onebit.ImageTask(labels=labels, image_size=(8, 8))


REFUSED = [
    (("a", "b"), "shape \\(3,\\) for an image, but the task names 2 labels"),
    (tuple("abcd"), "shape \\(3,\\) for an image, but the task names 4 labels"),
    ("abc", "labels"),
    ((0, 1, 2), "label"),
    (("a", None, "c"), "label"),
    (("a", "b", "a"), "'a'"),
    (("a", "b\0", "c"), "label"),
    (("a", "\ud800", "c"), "label"),
]


@pytest.mark.parametrize(("labels", "message"), REFUSED)
def test_labels_that_a_file_cannot_have(tmp_path, labels, message):
    with pytest.raises(OnebitError, match=message):
        pack(network(), tmp_path / "m.onebit", task(labels))
    assert not list(tmp_path.iterdir())


def test_a_list_of_labels_is_as_good_as_a_tuple(tmp_path):
    pack(network(), tmp_path / "m.onebit", task(["a", "b", "c"]))
    assert onebit.load(tmp_path / "m.onebit").task.labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"image_size": (8.0, 8)}, "8.0"), ({"image_size": (np.int64(8), 8)}, "int64")],
)
def test_numbers_that_a_file_cannot_have(tmp_path, fields, message):
    with pytest.raises(OnebitError, match=message):
        pack(
            network(),
            tmp_path / "m.onebit",
            onebit.ImageTask(**{"labels": tuple("abc"), "image_size": (8, 8)} | fields),
        )
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_task(tmp_path):
    with pytest.raises(PackError, match=r"task is of type tuple: give an onebit\.ImageTask, an onebit\.TextTask or"):
        pack(network(), tmp_path / "m.onebit", ("a", "b", "c"))


def test_an_output_that_is_not_one_row_of_logits(tmp_path):
    with pytest.raises(PackError, match="output has shape"):
        pack(nn.Sequential(nn.Conv2d(3, 3, 1)), tmp_path / "m.onebit", task(tuple("abc")))


class Words(nn.Module):
    context = 4

    def __init__(self, tokens):
        super().__init__()
        self.embedding = nn.Embedding(tokens, 8)
        self.head = BinaryLinear(8, tokens)

    def forward(self, x):
        return self.head(self.embedding(x))


def test_vocabularies_that_a_file_cannot_have(tmp_path):
    good = train_vocabulary(["a text"], 259).vocabulary
    pack(Words(len(good)), tmp_path / "m.onebit", TextTask(good))
    onebit.load(tmp_path / "m.onebit")
    (tmp_path / "m.onebit").unlink()
    for vocabulary, outputs in ((good, len(good) + 1), ((*good, "a\nb"), len(good) + 1)):
        with pytest.raises(OnebitError):
            pack(Words(outputs), tmp_path / "m.onebit", TextTask(vocabulary))
    assert not list(tmp_path.iterdir())


def test_what_the_engine_refuses_is_not_written(tmp_path, monkeypatch):
    import onebit._engine

    def refuse(*arguments, **options):
        raise ValueError("[step 1 (relu)] does not fit")

    monkeypatch.setattr(onebit._engine, "Engine", refuse)
    with pytest.raises(PackError, match="the engine would not run the file: .step 1 .relu.. does not fit"):
        pack(network(), tmp_path / "m.onebit", task(tuple("abc")))
    assert not list(tmp_path.iterdir())


def test_packing_leaves_frozen_layers_frozen(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)).train()
    model[1].eval()
    pack(model, tmp_path / "m.onebit", task(tuple("abc")))
    assert [module.training for module in model] == [True, False, True, True]


def test_one_network_is_one_file_in_every_process(tmp_path):
    script = """
import sys, torch, onebit
torch.manual_seed(0)
model = onebit.models.conv_classifier(3, 4, (6, 9))
onebit.pack(model, sys.argv[1], onebit.ImageTask(labels=tuple("abcd"), image_size=(12, 10)))
"""
    sums = set()
    for seed, threads in (("1", "1"), ("2", "2")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], env=environment, check=True)
        sums.add(hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest())
    assert len(sums) == 1


@pytest.mark.parametrize("model", [None, 1, "model", {}, np.zeros(3)], ids=str)
def test_what_is_not_a_model_is_named(tmp_path, model):
    task = onebit.ImageTask(("a", "b"), (2, 2))
    for use in (lambda: onebit.pack(model, tmp_path / "a.onebit", task), lambda: onebit.summary(model, (3, 2, 2))):
        with pytest.raises(OnebitError, match=r"^\[model\] is of type \w+: give an nn.Module$"):
            use()


@pytest.mark.parametrize("training", [1, 1.5, "", [], {}, {"data": 1}, b"x", np.zeros(3)], ids=str)
def test_a_record_of_the_training_that_no_reader_takes_is_not_packed(tmp_path, training):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    with pytest.raises(OnebitError, match=r"^\[training\][^\n]*$"):
        onebit.pack(model, tmp_path / "a.onebit", onebit.ImageTask(("a", "b"), (2, 2)), training)
    assert not list(tmp_path.iterdir())
