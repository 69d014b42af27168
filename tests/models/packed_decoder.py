"""A decoder with scattered parameters, and whether its packed file computes what it does."""

import numpy as np
import torch

import onebit
from onebit.fileformat import load_model
from onebit.runtime import reference


def scattered(model):
    """Parameters of every kind, away from where they start."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def pack_and_compare(model, file, task):
    """Pack it, and hold NumPy and the engine to PyTorch's logits of 12 tokens: the report, the packed model, the tokens and the logits."""
    report = onebit.pack(model, file, task)
    tokens = np.random.default_rng(0).integers(0, 300, 12)
    with torch.inference_mode():
        expected = model(torch.tensor(tokens)[None])[0].numpy()
    packed = load_model(file)
    found = reference.run(packed.program, packed.tensors, tokens[None], "float32")[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    session = onebit.load(file, precision="float32", threads=1)
    np.testing.assert_allclose(session.logits(tokens.tolist()), expected, rtol=1e-4, atol=1e-4)
    return report, packed, tokens, expected
