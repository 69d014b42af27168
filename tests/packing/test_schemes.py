"""Whole networks of every scheme, packed: the engine and the reference compute what PyTorch does."""

import numpy as np
import pytest
import torch

import onebit
from onebit.models import mobile_net, resnet, vgg
from onebit.nn import BinaryLinear
from onebit.packing import pack, to_packed_model
from onebit.runtime import reference
from onebit.schemes import SCHEMES, AbsMax, BinaryNormalized, BinaryWeightNetwork, BitNet, DoReFa, NormFree

TASK = onebit.ImageTask(labels=tuple("abcdefghij"), image_size=(16, 16))
# Whatever a scheme's inputs are quantised to, a rounding at the border between two levels may fall the other way.
SCHEMES_TRIED = [
    None,
    *(scheme() for scheme in SCHEMES.values()),
    BinaryNormalized("pm1", normalize="batch"),
    BinaryWeightNetwork(activations=AbsMax(16)),
    DoReFa(2, 3),
    DoReFa(1, 1),
    DoReFa(8, 8),
    NormFree(norm="group"),
]


def networks(scheme):
    yield "resnet", resnet(8, 10, scheme=scheme)
    yield "vgg", vgg((16, 16), widths=(8, 16), hidden=(32,), scheme=scheme, hybrid=False)
    yield "mobile", mobile_net(10, width=0.125, small_images=True, scheme=scheme)


def logits(model, pixels):
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        return model((x - 0.5) / 0.5).numpy()


@pytest.mark.parametrize("scheme", SCHEMES_TRIED)
def test_a_packed_network_computes_what_was_trained(tmp_path, scheme):
    torch.manual_seed(3)
    pixels = np.random.default_rng(3).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    for name, model in networks(scheme):
        for _ in range(3):  # statistics of batches
            model(torch.randn(16, 3, 16, 16))
        model.eval()
        expected = logits(model, pixels)
        packed = to_packed_model(model, TASK)
        pack(model, tmp_path / "model.onebit", TASK)
        found = {
            "reference": reference.run(packed.program, packed.tensors, pixels, "float32"),
            "engine": onebit.load(tmp_path / "model.onebit", precision="float32", threads=2)(pixels),
        }
        if scheme is not None and scheme.activations is not None:  # int8 changes nothing then
            found["int8"] = onebit.load(tmp_path / "model.onebit", threads=1)(pixels)
        for where, y in found.items():
            error = np.abs(y - expected).max(1) / np.abs(expected).max()
            assert np.median(error) < 5e-4, (name, where, error)
            assert np.mean(error < 1e-3) >= 0.75, (name, where, error)
            if scheme is None or scheme.binary_activations:
                assert np.median(error) < 1e-6, (name, where, error)


def test_scales_biases_and_normalisations_are_one_pair_of_floats_for_each_channel():
    model = resnet(8, 10, scheme=SCHEMES["BiRealNet"]()).eval()
    packed = to_packed_model(model, TASK)
    ops = [step.op for step in packed.program.steps]
    binary = [i for i, op in enumerate(ops) if op == "bit_conv2d"]
    assert len(binary) == 6
    assert all(ops[i + 1] == "scale_shift" and ops[i + 2] != "scale_shift" for i in binary)


def test_inputs_of_signs_are_packed_as_such():
    packed = to_packed_model(resnet(8, 10, scheme=SCHEMES["XnorNet"]()).eval(), TASK)
    steps = [step for step in packed.program.steps if step.op == "bit_conv2d"]
    assert all(step.attributes["input"] == {"quantizer": "sign"} for step in steps)
    assert sum(step.op == "mean_magnitude" for step in packed.program.steps) == len(steps)


def test_the_inputs_normalisation_has_the_schemes_eps():
    torch.manual_seed(0)
    task = onebit.ImageTask(labels=tuple("abcd"), image_size=(1, 1))
    model = torch.nn.Sequential(torch.nn.Flatten(), BinaryLinear(3, 4, scheme=BitNet(eps=0.5)))
    pixels = np.array([[[[128, 129, 130]]], [[[110, 140, 150]]]], np.uint8)
    packed = to_packed_model(model, task)
    found = reference.run(packed.program, packed.tensors, pixels, "float32")
    assert np.abs(found - logits(model, pixels)).max() < 1e-5
    assert [step.attributes["eps"] for step in packed.program.steps if step.op == "normalize"] == [0.5]
