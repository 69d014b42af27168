"""A training that is killed at any moment, again and again, ends as one that never was."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from onebit.training import load_run

# One process has imported everything, and each life is a fork of it: a start takes no seconds, and SIGKILL is a real one.
LIVES = """
import os, random, signal, sys, time
from pathlib import Path
import sklearn.datasets, tokenizers, torch, torch.utils.tensorboard
from onebit.training import load_recipe, train

recipe, out, kills, seed = load_recipe(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
last = out / "checkpoints" / "last.ckpt"
moments = random.Random(seed)

def live():
    pid = os.fork()
    if pid == 0:
        train(recipe, out, resume=out.exists(), progress=False, checkpoint_steps=2)
        os._exit(0)
    return pid

def stamp():
    return last.stat().st_ino if last.exists() else 0

def writing():
    return last.parent.exists() and any(entry.name.endswith(".part") for entry in os.scandir(last.parent))

for kill in range(kills):
    pid = live()
    # After one to four more checkpoints: at once, somewhere on the way to the next, or while that is being written.
    for _ in range(moments.randint(1, 4)):
        before = stamp()
        while stamp() == before and os.waitpid(pid, os.WNOHANG)[0] == 0:
            time.sleep(0.0005)
    if kill % 2:
        deadline = time.monotonic() + 60
        while not writing() and time.monotonic() < deadline:
            pass
        kind = "writing"
    else:
        time.sleep(moments.uniform(0, 0.03))
        kind = "between"
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status), "it ended before it was killed"
    left = sum(entry.name.endswith(".part") for entry in os.scandir(last.parent))
    print(kind, torch.load(last, weights_only=True)["global_step"], left, flush=True)
pid = live()
assert os.waitpid(pid, 0)[1] == 0
"""

IMAGES = """
kind: images
data: digits
channels: 1
widths: [4, 6]
binary: false
epochs: 4
train_limit: 200
validation_share: 0.2
batch_size: 16
augment: crop-flip
learning_rate: 4.0e-3
warmup: 4
threads: 1
precision: float32
"""

TEXT = """
kind: text
vocabulary: 290
context: 8
blocks: 1
features: 16
heads: 2
head: [16]
epochs: 4
epoch_steps: 10
accumulate: 2
batch_size: 4
learning_rate: 4.0e-3
clip: 1.0
threads: 1
precision: float32
validation_tokens: 400
"""


def rows(path):
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def content(value):
    """A checkpoint as plain values that can be compared."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: content(v) for key, v in value.items()}
    return [content(v) for v in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(("text", "steps"), [(IMAGES, 10), (TEXT, 10)], ids=["images", "text"])
def test_a_run_that_is_killed_five_times_ends_as_if_it_never_was(tmp_path, monkeypatch, text, steps):
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "tiny.yaml"
    song = tmp_path / "song.txt"
    song.write_text("".join(f"the {word} is a {word}\n\n" for word in ("cat", "dog", "hen", "cow") * 60))
    recipe.write_text(text if "data:" in text else f"{text}data: {song}\n")

    def live(name, kills):
        words = [sys.executable, "-c", LIVES, recipe, tmp_path / name, str(kills), "3"]
        return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=600).stdout

    assert live("whole", 0) == ""
    lines = [line.split() for line in live("killed", 5).splitlines()]
    assert [kind for kind, _, _ in lines] == ["between", "writing", "between", "writing", "between"]
    assert sum(int(step) % steps != 0 for _, step, _ in lines) >= 3  # within an epoch
    assert any(int(left) for kind, _, left in lines if kind == "writing")  # a file that was cut short lay there

    whole, killed = Path(tmp_path / "whole"), Path(tmp_path / "killed")
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (whole, killed))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "sums", "random"):
            assert content(a[part]) == content(b[part]), part
    assert load_run(whole).epochs == load_run(killed).epochs
    assert rows(whole / "curves.csv") == rows(killed / "curves.csv")
    if text is TEXT:  # the other has no binary layers
        assert rows(whole / "layers.csv") == rows(killed / "layers.csv")
    a, b = (json.loads((run / "result.json").read_text()) for run in (whole, killed))
    assert {**a, "seconds": 0} == {**b, "seconds": 0}
    assert not [entry for entry in (killed / "checkpoints").iterdir() if entry.name.endswith(".part")]
