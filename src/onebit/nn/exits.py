"""Places where a network may end early."""

from __future__ import annotations

from torch import Tensor, nn


class Exit(nn.Module):
    """A place where a packed network ends early for an input whose answer is probable enough.

    In PyTorch it gives its logits divided by its temperature, and nothing ends. `onebit.pack` records it as the op `exit`.

    Attributes:
        temperature: what the logits are divided by, so that their softmax is as sure as it is right; 1 until it is fitted.
        threshold: the probability of an answer above which the network ends; 1 (never) until it is calibrated.

    Shape:
        (batch, classes); the output has the input's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0
        self.threshold = 1.0

    def forward(self, logits: Tensor) -> Tensor:
        return logits if self.temperature == 1 else logits / self.temperature

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}, threshold={self.threshold:g}"


class AfterExits(nn.Module):
    """The end of a network with exits: its last logits in use, those of all its heads in training.

    Shape:
        Logits of each exit and of the network's end, (batch, classes) each, to the last of them; in training to all.
    """

    def forward(self, *logits: Tensor) -> Tensor | tuple[Tensor, ...]:
        return logits if self.training else logits[-1]
