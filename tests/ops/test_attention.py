"""Attention with fewer heads of keys than of queries, and with a window, against PyTorch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from onebit.ops import OPS


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("window", [None, 1, 3, 11])
def test_shared_heads_and_windows_are_pytorchs(kv_heads, window):
    rng = np.random.default_rng(kv_heads)
    time, heads, features = 9, 6, 4
    q, k, v = (rng.standard_normal((2, time, n * features)).astype(np.float32) for n in (heads, kv_heads, kv_heads))
    attributes = {"heads": heads, "kv_heads": kv_heads} | ({"window": window} if window else {})
    found = OPS["attention"].run(attributes, {}, "float32", q, k, v)
    distance = torch.arange(time)[:, None] - torch.arange(time)
    seen = (distance >= 0) & (distance < (window or time))
    split = [torch.tensor(x).reshape(2, time, -1, features).transpose(1, 2) for x in (q, k, v)]
    expected = F.scaled_dot_product_attention(*split, attn_mask=seen, enable_gqa=True)
    np.testing.assert_allclose(found, expected.transpose(1, 2).reshape(2, time, -1).numpy(), rtol=1e-5, atol=1e-6)
