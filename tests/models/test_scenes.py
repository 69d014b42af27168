"""The detector and the U-Net: shapes, gradients, twins, and packed programs against PyTorch."""

import numpy as np
import pytest
import torch

from onebit.models import center_detector, unet
from onebit.nn.binary import binary_layers
from onebit.packing.trace import trace
from onebit.runtime import reference
from onebit.schemes import Bipolar, ReActNet

MAKERS = [(center_detector, (7, 8, 12)), (unet, (3, 32, 48))]


@pytest.mark.parametrize("make, shape", MAKERS)
@pytest.mark.parametrize(
    "scheme, hybrid",
    [(None, True), (Bipolar(), True), (Bipolar(), False), (ReActNet(), True)],
    ids=["float", "hybrid", "all bits", "signs"],
)
def test_networks_train_and_pack(make, shape, scheme, hybrid):
    torch.manual_seed(0)
    model = make(3, widths=(4, 8, 12), scheme=scheme, hybrid=hybrid)
    x = torch.rand(4, 3, 32, 48)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    for _ in range(20):  # running statistics of the batch become its own
        y = model(x)
    y.square().mean().backward()
    optimizer.step()
    assert y.shape[1:] == shape
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing and bool(binary_layers(model)) == (scheme is not None)
    model.eval()
    made = trace(model, (32, 48, 3))
    with torch.inference_mode():
        expected = model(x).movedim(1, -1).numpy()
    found = reference.run(made.program, made.tensors, x.movedim(1, -1).numpy(), "float32")
    # A sign of a value at its threshold may fall to the other side; all other sums agree.
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert close.mean() > 0.99


def test_a_detector_begins_with_few_objects():
    model = center_detector(4, widths=(4, 8))
    scores = model(torch.zeros(1, 3, 16, 16))[:, :4].sigmoid()
    assert scores.detach().numpy() == pytest.approx(0.1, abs=1e-3)


def test_wrong_sizes_are_said():
    with pytest.raises(ValueError, match="widths=\\(4,\\): use two or more"):
        center_detector(3, widths=(4,))
    with pytest.raises(ValueError, match="num_classes=0: use numbers above 0"):
        unet(0)
