"""A new quantizer of weights needs only one class; every part of the library reads its properties."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import onebit
from onebit.errors import OnebitError
from onebit.nn import BinaryLinear, BinaryLSTM
from onebit.optim import bits_and_rest
from onebit.packing import to_packed_model
from onebit.quantizers import Codes, WeightQuantizer, straight_through
from onebit.runtime import reference
from onebit.schemes import Scheme
from onebit.training.latents import pull


def medians(w, axis):
    return w.movedim(axis, 0).flatten(1).median(1).values.view([-1 if a == axis else 1 for a in range(w.dim())])


@dataclass(frozen=True)
class MedianSign(WeightQuantizer):
    """The sign of what lies above each output's median, twice as large."""

    keeps: bool = False
    values = "bipolar"
    planes = (1,)

    @property
    def keeps_magnitude(self):
        return self.keeps

    def __call__(self, w, axis=0, training=True, progress=0.0):
        signs = straight_through(w, lambda v: torch.where(v > medians(v, axis), 1.0, -1.0), lambda v: None)
        return Codes(signs, torch.tensor(2.0))

    def scale_axes(self, w, axis):
        return None

    def centre(self, w, axis=0):
        return medians(w, axis)


class Stripped:
    """A function of weights without facts."""

    def __call__(self, w, axis=0, training=True, progress=0.0):
        return Codes(w)


SCHEME = Scheme(MedianSign(), norm=None)


def test_a_layer_computes_and_learns_with_it():
    layer = BinaryLinear(7, 5, scheme=SCHEME)
    x = torch.randn(4, 7)
    signs = torch.where(layer.weight > layer.weight.median(1, keepdim=True).values, 2.0, -2.0)
    torch.testing.assert_close(layer(x), x @ signs.T + layer.bias)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, 2 * x.sum(0).expand(5, 7))


def test_training_asks_where_its_values_lie():
    layer = BinaryLinear(7, 5, scheme=SCHEME)
    centre = layer.weight.median(1, keepdim=True).values
    torch.testing.assert_close(pull(layer), ((layer.weight - centre).abs() - 1).abs().sum())
    with pytest.raises(OnebitError, match=r"\[Bop\] 0: Scheme does not take the sign"):
        bits_and_rest(nn.Sequential(layer))


@pytest.mark.parametrize("keeps", [True, False])
def test_a_recurrence_asks_for_its_magnitude(keeps):
    layer = BinaryLSTM(4, 3, scheme=Scheme(MedianSign(keeps)))
    assert layer.layers[0].normalized == (not keeps)


def test_a_converted_network_is_packed_with_it():
    task = onebit.ImageTask(tuple("abc"), (6, 6), 1, (0.5,), (0.5,))
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    assert onebit.convert(model, SCHEME, keep=()).converted == ("0", "3")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1), np.uint8)
    packed = to_packed_model(model, task)
    with torch.no_grad():
        expected = model((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).numpy()
    found = reference.run(packed.program, packed.tensors, pixels, "float32")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_one_that_lacks_a_fact_is_refused():
    class Half(WeightQuantizer):
        values, planes = "bipolar", (1,)

        def __call__(self, w, axis=0, training=True, progress=0.0):
            return Codes(w)

    with pytest.raises(TypeError, match=r"keeps_magnitude"):
        Half()
    with pytest.raises(ValueError, match=r"use a quantizer of weights from onebit.quantizers, or a class derived"):
        Scheme(Stripped())


def test_the_names_of_version_0_1_0_still_import():
    from onebit.binarize import MeanThreshold, weight_planes
    from onebit.gradients import CLIPPED, quantize_gradient
    from onebit.quantizers import gradients

    assert (MeanThreshold, weight_planes) == (onebit.quantizers.MeanThreshold, onebit.quantizers.weight_planes)
    assert (CLIPPED, quantize_gradient) == (gradients.CLIPPED, gradients.quantize_gradient)
