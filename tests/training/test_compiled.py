"""Training by torch.compile: the same network but for rounding, compiled once for each stage, resumed exactly; without a compiler it goes on."""

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from onebit.models import language_decoder
from onebit.nn import BinaryLinear, BinaryLSTM
from onebit.quantizers import Sign
from onebit.quantizers.gradients import Tanh
from onebit.schemes import BinaryNormalized, Scheme
from onebit.training import ImageRecipe, TextRecipe, load_run, train
from onebit.training.compiled import Compiled

TINY = ImageRecipe(
    data="digits", channels=1, model="mlp", hidden=(12,), scheme="BinaryNet", hybrid=False, epochs=3, first_stage_epochs=1,
    train_limit=150, batch_size=32, learning_rate=2e-3, threads=1, precision="float32", decay=15, compile=True,
)  # fmt: skip


@functools.cache
def what_compiling_lacks():
    """What torch.compile needs and this machine does not have; None where it has all. Told by the compiler itself: it may lack its linker."""
    with tempfile.TemporaryDirectory() as name:
        source, headers = Path(name) / "a.cpp", sysconfig.get_paths()["include"]
        source.write_text("#include <Python.h>\nint main() { return Py_IsInitialized(); }\n")
        words = [os.environ.get("CXX", "g++"), "-shared", "-fPIC", "-I", headers, str(source), "-o", f"{name}/a.so"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"a C++ compiler ({error})"
        lines = done.stderr.strip().splitlines()
        return (
            None if done.returncode == 0 else f"a C++ compiler that links ({lines[0] if lines else 'no word of why'})"
        )


@pytest.fixture
def compiles():
    if (lacks := what_compiling_lacks()) is not None:
        pytest.skip(f"needs {lacks}")


def state(path):
    return load_run(path, "last").model.state_dict()


def test_a_compiled_run_is_the_same_but_for_rounding_and_resumes_exactly(tmp_path, compiles):
    teacher = train(TINY.override({"compile": False, "epochs": 2}), tmp_path / "teacher", progress=False)
    taught = TINY.override({"teacher": str(teacher.path), "distill_features": [next(iter(layers(teacher.model)))]})
    counters.clear()
    train(taught, tmp_path / "whole", progress=False)
    assert (
        counters["stats"]["unique_graphs"] == 2
    )  # one for each stage; not for each step, nor for the epoch's last batch of 22
    train(taught.override({"compile": False}), tmp_path / "eager", progress=False)
    whole, eager = state(tmp_path / "whole"), state(tmp_path / "eager")
    assert whole.keys() == eager.keys()
    # Adam divides by the gradient's size: behind a layer whose bias a batch normalisation takes away, that is rounding alone.
    close = [
        torch.isclose(value, eager[key], atol=1e-4).float().mean() for key, value in whole.items() if value.dim() > 1
    ]
    assert min(close) > 0.98
    for ours, theirs in zip(*(load_run(tmp_path / name).curves() for name in ("whole", "eager")), strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
    train(taught.override({"epochs": 2}), tmp_path / "parts", progress=False)
    train(taught, tmp_path / "parts", resume=True, progress=False)
    parts = state(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def layers(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, BinaryLinear)}


def test_a_decoder_is_compiled_once_for_batches_that_accumulate(tmp_path, monkeypatch, compiles):
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "song.txt").write_text("one two three four five six seven eight nine ten\n" * 600)
    recipe = TextRecipe(
        data=str(tmp_path / "song.txt"), vocabulary=290, context=16, blocks=1, features=32, heads=2, head=(32,), logit_scale=3.0,
        epochs=2, epoch_steps=4, batch_size=4, accumulate=2, learning_rate=2e-3, clip=1.0, threads=1, precision="bf16",
    )  # fmt: skip
    eager = train(recipe, tmp_path / "eager", progress=False)
    counters.clear()
    run = train(recipe.override({"compile": True}), tmp_path / "compiled", progress=False)
    assert counters["stats"]["unique_graphs"] == 1
    for ours, theirs in zip(run.curves(), eager.curves(), strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.01)
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=0.01)


@pytest.mark.parametrize("values", ["01", "pm1"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gradients_of_latents_are_those_of_the_uncompiled_network(values, precision, compiles):
    torch.manual_seed(0)
    sizes = {"vocabulary": 64, "context": 16, "blocks": 1, "features": 32, "heads": 2, "head": [32]}
    model = language_decoder(sizes, scheme=BinaryNormalized(values))
    tokens = torch.randint(64, (4, 16))

    def gradients(network):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
            logits = network(tokens)
        nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens.roll(-1).flatten()).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.dim() > 1}

    eager, compiled = gradients(model), gradients(torch.compile(model.forward, dynamic=False))
    for name, gradient in eager.items():
        assert gradient.norm() > 0
        assert (compiled[name] - gradient).norm() < (0.1 if precision == "bf16" else 1e-4) * gradient.norm()


def test_a_compiler_that_loses_gradients_is_found_out(tmp_path, monkeypatch, capsys, compiles):
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda forward, **options: real(lambda x: forward(x) * torch.zeros(()), **options)
    )
    recipe = ImageRecipe(data="digits", channels=1, widths=(6, 8), values="pm1", normalize="batch", epochs=3, train_limit=300,
                         batch_size=32, learning_rate=4e-3, threads=1, compile=True)  # fmt: skip
    run = train(recipe, tmp_path / "lost", progress=True)
    assert "loses the gradients: training goes on uncompiled" in capsys.readouterr().err
    assert run.curves()[-1]["train_loss"] < 0.9 * run.curves()[0]["train_loss"]


# A compiler that finds its headers and no linker, as on a machine without binutils.
LINKS_NOTHING = """#!/bin/sh
for word in "$@"; do
    case "$word" in -c | -E | -v | --version | -dumpversion) exec g++ "$@" ;; esac
done
echo "collect2: fatal error: cannot find 'ld'" >&2
exit 1
"""


@pytest.mark.parametrize(
    ("compiler", "note"),
    [
        (None, "no C++ compiler found (install g++, or name one in CXX)"),
        (LINKS_NOTHING, "the C++ compiler fails (collect2: fatal error: cannot find 'ld')"),
    ],
)
def test_without_a_compiler_training_goes_on(tmp_path, compiler, note):
    words = [
        "train",
        "digits",
        "--widths",
        "4",
        "--epochs",
        "1",
        "--train-limit",
        "100",
        "--compile",
        "true",
        "--threads",
        "1",
    ]
    nowhere = {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "CXX": ""}
    if compiler is not None:
        if shutil.which("g++") is None:
            pytest.skip("needs g++")
        (tmp_path / "c++").write_text(compiler)
        (tmp_path / "c++").chmod(0o755)
        nowhere |= {"PATH": os.environ["PATH"], "CXX": str(tmp_path / "c++")}
    environment = {key: value for key, value in {**os.environ, **nowhere}.items() if value}
    result = subprocess.run(
        [sys.executable, "-m", "onebit", *words, "--out", str(tmp_path / "run")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    # PyTorch adds a warning of its own where CUDA is built in and no GPU is there.
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert notes == [f"note: [compile] {note}: training goes on uncompiled"]
    assert load_run(tmp_path / "run").epochs == 1


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (BinaryLinear(4, 2, scheme=Scheme(weights=Sign(Tanh()))), "gradient of its scheme"),
        (
            nn.Sequential(nn.Linear(4, 4), BinaryLinear(4, 2, scheme=Scheme(activations=Sign(Tanh())))),
            "gradient of its scheme",
        ),
        (BinaryLSTM(4, 2), "recurrence"),
        (nn.GRU(4, 2), "recurrence"),
    ],
)
def test_what_would_be_compiled_again_and_again_is_left_alone(model, why):
    notes = []
    compiled = Compiled(model, notes.append)
    assert len(notes) == 1
    assert why in notes[0]
    counters.clear()
    compiled(torch.zeros(3, 5, 4))
    assert not counters["stats"]


def test_a_fault_of_the_network_is_raised_as_it_is():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Compiled(nn.Linear(4, 2), lambda note: None)(torch.zeros(3, 5))
