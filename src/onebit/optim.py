"""Bop, which flips bits without latent weights, PyTorch's Muon for matrices, and a way to use them together with another optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import OnebitError
from onebit.nn.binary import binary_layers


class Bop(torch.optim.Optimizer):
    r"""The binary optimizer: all weights are -1 or +1. A weight flips when the moving mean of its gradient points against it.

    .. math:: m \leftarrow (1 - \gamma) m + \gamma g, \qquad
              w \leftarrow -w \text{ where } |m| > \tau \text{ and } \operatorname{sign}(m) = \operatorname{sign}(w)

    Args:
        parameters: the weights. The constructor sets each to its sign.
        gamma: how much a step's gradient counts. It is the group's "lr", so that a schedule can lower it, as in the paper.
        threshold: tau. A higher threshold means fewer flips.

    Raises:
        ValueError: gamma is not within 0 to 1, or the threshold is negative.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([0.3, -0.2]))
        >>> bop = Bop([w], gamma=0.5)
        >>> w.grad = torch.tensor([1.0, 1.0])
        >>> bop.step()
        >>> w.tolist()
        [-1.0, -1.0]

    Source: Helwegen et al., Latent Weights Do Not Exist, arXiv 1906.02107, algorithm 1.
    """

    def __init__(self, parameters: Iterable[Tensor], gamma: float = 1e-4, threshold: float = 1e-8) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"[Bop] gamma={gamma}: use a number above 0, at most 1")
        if not threshold >= 0:
            raise ValueError(f"[Bop] threshold={threshold}: use 0 or more")
        super().__init__(parameters, {"lr": gamma, "threshold": threshold})
        with torch.no_grad():
            for group in self.param_groups:
                for w in group["params"]:
                    w.copy_(torch.where(w >= 0, 1.0, -1.0))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Flip weights by their gradients. Returns the result of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for w in group["params"]:
                    if w.grad is None:
                        continue
                    state = self.state[w]
                    if not state:
                        state["mean"] = torch.zeros_like(w)
                    mean = state["mean"].lerp_(w.grad, group["lr"])
                    # w is -1 or +1, so the product is |m| if the signs agree and negative if they do not.
                    flips = mean * w
                    torch.gt(flips, group["threshold"], out=flips)
                    w.mul_(flips.mul_(-2).add_(1))  # in place: new memory takes longer than the sums
        return loss


class Together(torch.optim.Optimizer):
    """Several optimizers that act as one, each with its own parameters.

    Args:
        optimizers: the parts. Their groups of parameters follow in this order.

    Example:
        >>> from onebit.schemes import BinaryNet
        >>> model = onebit.models.mlp(10, hidden=(8, 8), scheme=BinaryNet())
        >>> bits, rest = bits_and_rest(model)
        >>> optimizer = Together([torch.optim.Adam(rest, lr=1e-3), Bop(bits)])
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([p for part in self.optimizers for group in part.param_groups for p in group["params"]], {})
        self._share_groups()

    def _share_groups(self) -> None:
        # The same dicts as in the parts, so that a schedule also sets the rates of the parts.
        self.param_groups = [group for part in self.optimizers for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of each part. The closure is called once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.optimizers:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts."""
        return {"optimizers": [part.state_dict() for part in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of the parts, in the same order."""
        for part, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def forget(self) -> None:
        """Delete what the parts have kept of past gradients."""
        for part in self.optimizers:
            part.state.clear()


def bits_and_rest(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that `Bop` flips (the weights of the binary layers), and all other parameters.

    Raises:
        OnebitError: the model has no binary layers, or the scheme of a layer does not fit `Bop`: its bits are not the signs of its weights, or
            its gradient is zero or scaled where weights are -1 or +1.
    """
    layers = binary_layers(model)
    if not layers:
        raise OnebitError("[Bop] the network has no binary layers: use optimizer=adam")
    for name, layer in layers.items():
        if not layer.scheme.weights.flips_freely:
            raise OnebitError(
                f"[Bop] {name}: {type(layer.scheme).__name__} does not take the sign of a weight for its bit, with a gradient "
                "that passes at -1 and +1: use optimizer=adam, or BinaryConnect, BinaryNet or XnorNet with bop"
            )
    bits = [layer.weight for layer in layers.values()]
    flipped = {id(p) for p in bits}
    return bits, [p for p in model.parameters() if id(p) not in flipped]


def muon(parameters: Iterable[Tensor], **options: Any) -> torch.optim.Optimizer:
    r"""PyTorch's Muon, with steps as large as those of Adam: the step of a matrix is its momentum made orthogonal.

    .. math:: m \leftarrow \mu m + g, \qquad w \leftarrow w - 0.2 \sqrt{\max(outputs, inputs)} \, lr \operatorname{orthogonal}(g + \mu m)

    Args:
        parameters: matrices, such as those of `matrices_and_rest`.
        options: of ``torch.optim.Muon``: `lr`, `weight_decay`, `ns_steps` and others.

    Raises:
        OnebitError: this PyTorch is older than 2.9, which brought Muon.

    Source: Jordan et al., Muon (2024); Liu et al., Muon is Scalable for LLM Training, arXiv 2502.16982, for the size of the step.
    """
    kind = getattr(torch.optim, "Muon", None)
    if kind is None:
        raise OnebitError(f"[muon] PyTorch {torch.__version__} has no Muon: use 2.9 or later, or optimizer=adam")
    made: torch.optim.Optimizer = kind(parameters, adjust_lr_fn="match_rms_adamw", **options)
    return made


def matrices_and_rest(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that Muon is for (the weights of dense layers but the last), and all other parameters: tables, the last layer, kernels, biases.

    Raises:
        OnebitError: the model has no dense layer but the last.
    """
    weights = [getattr(m, "weight", None) for m in model.modules() if not isinstance(m, nn.Embedding)]
    matrices = [w for w in weights if isinstance(w, nn.Parameter) and w.dim() == 2][:-1]
    if not matrices:
        raise OnebitError("[muon] the network has no dense layer but the last: use optimizer=adam")
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in model.parameters() if id(p) not in chosen]
