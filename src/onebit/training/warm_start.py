"""Starting from a trained network: its weights become latents."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onebit.errors import OnebitError


def warm_start(model: nn.Module, state: Mapping[str, Tensor], where: str = "warm_start") -> list[str]:
    """Copy what a trained network holds into a new one, by name and shape, the statistics of batch normalisations too.

    A float weight becomes the latent of the bit, so that a network begins with the bits that its float twin would be rounded to.

    Args:
        model: of latents that have just been started.
        state: of the trained network, its `state_dict()`.
        where: the source, for the message.

    Returns:
        The names of what the model has and the source has not, or of another shape; these stay as they were.

    Raises:
        OnebitError: no weight fits.

    Source: Martinez et al., arXiv 2003.11535, begin binary networks with weights that were trained as floats.
    """
    own = model.state_dict()
    fitting = [name for name, value in own.items() if name in state and state[name].shape == value.shape]
    weights = [name for name, _ in model.named_parameters() if own[name].dim() > 1]
    if not any(name in fitting for name in weights):
        raise OnebitError(
            f"[{where}] no weight of this network is there by name and shape: warm-start from a run of the same model and widths"
        )
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(state[name])
    return [name for name in own if name not in fitting]
