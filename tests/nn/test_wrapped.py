"""A network inside any PyTorch wrapper can be packed and summarised."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel
from torch.optim.swa_utils import AveragedModel

import onebit
from onebit.nn import BinaryLinear
from onebit.nn.wrapped import unwrapped
from onebit.packing import pack, to_packed_model

TASK = onebit.ImageTask(labels=("a", "b", "c"), image_size=(8, 8))


class Average(nn.Module):
    """As libraries keep averages of weights: without a forward."""

    def __init__(self, model):
        super().__init__()
        self.module = model


class Doubled(nn.Module):
    """It has a module, but does not stand for it."""

    def __init__(self, model):
        super().__init__()
        self.module = model

    def forward(self, x):
        return 2 * self.module(x)


class Vague(Doubled):
    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), BinaryLinear(192, 3))


WRAPPERS = [AveragedModel, DataParallel, torch.compile, Average, lambda m: torch.compile(DataParallel(m))]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_is_around_a_network_is_taken_off(wrap, tmp_path):
    plain, wrapped = network(), wrap(network())
    pack(plain, tmp_path / "plain.onebit", TASK)
    report = pack(wrapped, tmp_path / "wrapped.onebit", TASK)
    assert (tmp_path / "plain.onebit").read_bytes() == (tmp_path / "wrapped.onebit").read_bytes()
    assert report.parameters == 192 * 3 + 3
    assert str(onebit.summary(wrapped, (3, 8, 8))) == str(onebit.summary(plain, (3, 8, 8)))


@pytest.mark.parametrize("wrap", [DataParallel, torch.compile])
def test_parts_of_a_network_may_be_wrapped(wrap):
    plain = network()
    parts = nn.Sequential(plain[0], wrap(plain[1]))
    found, expected = (to_packed_model(model, TASK) for model in (parts, plain))
    assert [step.op for step in found.program.steps] == [step.op for step in expected.program.steps]
    assert sorted(t.tobytes() for t in found.tensors.values()) == sorted(t.tobytes() for t in expected.tensors.values())


def test_what_computes_something_of_its_own_stays():
    model = Doubled(network())
    assert unwrapped(model) is model
    assert len(to_packed_model(model, TASK).program.steps) == len(to_packed_model(model.module, TASK).program.steps) + 1


def test_what_passes_any_arguments_on_is_followed():
    plain = network()
    found, expected = (to_packed_model(model, TASK) for model in (Vague(plain), plain))
    assert [step.op for step in found.program.steps] == [step.op for step in expected.program.steps]


def test_networks_of_several_devices(tmp_path):
    script = """
import sys, torch, torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
import onebit
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/rendezvous", rank=0, world_size=1)
task = onebit.ImageTask(labels=("a", "b", "c"), image_size=(8, 8))
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
onebit.pack(model, sys.argv[1] + "/plain", task)
onebit.pack(DistributedDataParallel(model), sys.argv[1] + "/ddp", task)
fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (1,)))
try:
    onebit.pack(model, sys.argv[1] + "/fsdp", task)
except onebit.errors.OnebitError as error:
    print(error)
dist.destroy_process_group()
"""
    words = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "its parameters are divided among devices" in result.stdout
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "ddp").read_bytes()
    assert not (tmp_path / "fsdp").exists()
