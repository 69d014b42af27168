"""A layer gives the same results on a GPU as on the CPU. Skipped without a GPU."""

import copy

import pytest
import torch

from onebit.nn import BinaryConv2d

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_a_convolution_equals_the_cpus():
    layer = BinaryConv2d(8, 16, 3, padding=1)
    x = torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(copy.deepcopy(layer).cuda()(x.cuda()).cpu(), layer(x), rtol=1e-3, atol=1e-3)
