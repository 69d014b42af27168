"""A classifier of images with exits: heads at several depths, at which an easy input may end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from onebit.nn.exits import AfterExits, Exit


class ExitClassifier(nn.Module):
    """Blocks one after the other, a head after some of them and after the last. `conv_classifier(exits=...)` builds it.

    Args:
        blocks: the network's blocks of convolutions.
        heads: a head for each exit, then the last head: a block's output to logits.
        exits: the blocks, counted from 1, after which there is an exit.
        logit_scale: a constant that multiplies all logits; None for none.

    Shape:
        (batch, channels, height, width) to logits (batch, classes) of the last head. In training to a tuple of the logits of every head.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], heads: Sequence[nn.Module], exits: Sequence[int], logit_scale: float | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleList(heads)
        self.exits = nn.ModuleList(Exit() for _ in exits)
        self.places = tuple(exits)
        self.after = AfterExits()
        self.logit_scale = logit_scale

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        answers = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self.places:
                index = self.places.index(number)
                answers.append(self.exits[index](self._scaled(self.heads[index](x))))
        answers.append(self._scaled(self.heads[-1](x)))
        result: Tensor | tuple[Tensor, ...] = self.after(*answers)
        return result

    def _scaled(self, logits: Tensor) -> Tensor:
        return logits if self.logit_scale is None else logits * self.logit_scale


def check_exits(exits: Sequence[int], blocks: int) -> tuple[int, ...]:
    """Places of exits. Raises ValueError if one is not a block before the last, or they do not rise."""
    places = tuple(exits)
    rising = all(first < second for first, second in pairwise(places))
    if not rising or any(not 1 <= place < blocks for place in places):
        allowed = f"rising numbers from 1 to {blocks - 1}" if blocks > 1 else "none with a single block"
        raise ValueError(f"[conv_classifier] exits={places}: use {allowed}, the blocks after which there is a head")
    return places


def pooled_head(channels: int, classes: int, linear: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """The head of an exit: the mean over all positions, a dense layer of the same width, and one of the classes."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(channels, channels), nn.ReLU(), linear(channels, classes)
    )
