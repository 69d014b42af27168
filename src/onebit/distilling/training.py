"""Rounding and training block after block, and training of the whole network on its teacher's logits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.distilling.layers import GroupScaledLinear
from onebit.distilling.network import MATRICES, SUB_NORMS
from onebit.distilling.start import compensate_block, products_of_inputs
from onebit.errors import OnebitError, shown
from onebit.models.decoder import LanguageDecoder
from onebit.nn import BinaryLayer
from onebit.progress import report
from onebit.training.distillation import Teacher

# Scales are larger than the changes of a latent that matter, and all weights of a group move with one.
_RATE_OF_SCALES = 0.3
_BETAS = (0.9, 0.95)
_CLIP = 1.0
# The least that a setting may be, and those that need not be whole.
_LEAST = {
    **dict.fromkeys(("window", "batch", "block_batch"), 1),
    **dict.fromkeys(("calibration", "block_steps", "steps", "weight", "minutes", "seed"), 0),
    **dict.fromkeys(("block_rate", "rate", "temperature"), 1e-9),
}
_SHARES = ("weight", "minutes", "temperature")


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        window: the tokens of an example.
        calibration: the examples that blocks are rounded and trained on; 0 leaves out this stage.
        block_steps: steps for each block; 0 leaves them as rounding made them.
        steps: steps of the whole network.
        batch: examples of a step of the whole network.
        block_batch: examples of a step of a block.
        block_rate, rate: the highest learning rates of latents in the two stages.
        weight: of the teacher's logits; the text itself has the rest. None for 1, and for 0 where a ternary model goes on with its training.
        temperature: of both logits.
        features: names of layers whose outputs learn from the teacher's too.
        minutes: after which the whole network's training ends, with its schedule; None for when its steps are done.
        seed: of the order of the text.
    """

    window: int = 128
    calibration: int = 64
    block_steps: int = 64
    steps: int = 1000
    batch: int = 8
    block_batch: int = 4
    block_rate: float = 2e-3
    rate: float = 1e-4
    weight: float | None = None
    temperature: float = 1.0
    features: tuple[str, ...] = ()
    minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < least):
                raise OnebitError(f"[distill] {name}={shown(value)}: needs a number from {least:g} up")
            if "rate" not in name and name not in _SHARES and value is not None and type(value) is not int:
                raise OnebitError(f"[distill] {name}={shown(value)}: needs a whole number")
        if self.weight is not None and self.weight > 1:
            raise OnebitError(f"[distill] weight={shown(self.weight)}: needs a number from 0 to 1")

    def teaching(self, taught: bool) -> float:
        """The weight of the teacher's logits."""
        return (1.0 if taught else 0.0) if self.weight is None else self.weight


def round_and_train_blocks(
    student: LanguageDecoder,
    teacher: LanguageDecoder,
    tokens: Tensor,
    how: Training,
    save: Callable[[int], None] = lambda done: None,
    first: int = 0,
) -> None:
    """Round each block by what its inputs are, then train it to give what the teacher's does.

    The inputs are those that the blocks before give, which are rounded already.

    Args:
        student, teacher: with the same embedding.
        tokens: (examples, window).
        save: called after each block with their number.
        first: the number of blocks that are done already.
    """
    with torch.no_grad():
        ours = theirs = teacher.embedding(tokens)
    count = len(student.blocks)
    for number, (block, float_block) in enumerate(zip(student.blocks, teacher.blocks, strict=True)):
        wanted = _outputs(float_block, theirs)
        if number >= first:
            products = products_of_inputs(float_block, MATRICES, partial(_outputs, float_block, ours))
            _start_norms(block, float_block, products, ours[..., 0].numel())
            compensate_block(block, products)
            _train_block(block, ours, wanted, how)
            save(number + 1)
        ours, theirs = _outputs(block, ours), wanted
        report("blocks", number + 1, count, "blocks")


def _start_norms(block: nn.Module, float_block: nn.Module, products: Mapping[str, Tensor], tokens: int) -> None:
    """Give sub norms that were added the magnitude of what they normalise, so that a layer's inputs stay about what they were."""
    there, before = dict(block.named_modules()), dict(float_block.named_modules())
    for layer, (name, _) in SUB_NORMS.items():
        norm = there.get(name)
        if isinstance(norm, nn.RMSNorm) and name not in before:
            with torch.no_grad():
                norm.weight.fill_(float((products[layer].diagonal().mean() / tokens).sqrt()))


def _outputs(block: nn.Module, x: Tensor) -> Tensor:
    """What a block gives, some examples at a time."""
    with torch.no_grad(), _lower_precision():
        return torch.cat([block(part).float() for part in torch.split(x, 8)])


def _lower_precision() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


def _train_block(block: nn.Module, inputs: Tensor, wanted: Tensor, how: Training) -> None:
    optimizer = _optimizer(block, how.block_rate)
    random = torch.Generator().manual_seed(how.seed)
    for step in range(how.block_steps):
        chosen = torch.randperm(len(inputs), generator=random)[: how.block_batch]
        with _lower_precision():
            found = block(inputs[chosen])
        loss = relative_error(found, wanted[chosen])
        _step(optimizer, block, loss, _share(step / how.block_steps, 0.0))


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """The squared distance over the squared length, the mean of all tokens. A few tokens are a thousand times as long as the others."""
    distance = (found.float() - wanted).square().sum(-1)
    return (distance / wanted.square().sum(-1)).mean()


def train_on_logits(
    student: LanguageDecoder,
    teacher: LanguageDecoder | None,
    batches: Iterator[Tensor],
    how: Training,
    save: Callable[[int], None] = lambda step: None,
    first: int = 0,
) -> int:
    """Train the whole network to predict what its teacher predicts, or the text.

    Args:
        student: the network.
        teacher: None for the text alone.
        batches: examples (batch, window + 1): inputs and what follows them.
        how: the settings.
        save: called after each step with their number.
        first: the number of steps that are done already.

    Returns:
        The number of steps that are done.

    Raises:
        OnebitError: the loss is not finite, or a layer of `features` does not exist.
    """
    taught = None if teacher is None else Teacher(student, teacher, how.features)
    optimizer = _optimizer(student, how.rate)
    student.train()
    began = time.monotonic()
    for step in range(first, how.steps):
        share = (step - first) / (how.steps - first)
        if how.minutes is not None:
            share = max(share, (time.monotonic() - began) / (60 * how.minutes))
        if share >= 1:
            return step
        tokens = next(batches)
        loss = _loss(student, taught, tokens, how)
        if not bool(loss.detach().isfinite()):
            raise OnebitError(f"[distill] the loss is not finite at step {step + 1}: use a lower rate")
        _step(optimizer, student, loss, _share(share, 0.03))
        save(step + 1)
        report("distil", step + 1, how.steps, f"steps, loss {float(loss.detach()):.3f}")
    return how.steps


def _loss(student: LanguageDecoder, taught: Teacher | None, tokens: Tensor, how: Training) -> Tensor:
    """Of examples (batch, window + 1)."""
    weight = how.teaching(taught is not None)
    with _lower_precision():
        logits = student(tokens[:, :-1]).flatten(0, -2)
    of_text = F.cross_entropy(logits.float(), tokens[:, 1:].flatten()) if weight < 1 else logits.new_zeros(())
    if taught is None:
        return of_text
    counted = torch.ones(len(logits), dtype=torch.bool)
    with _lower_precision():
        soft, apart = taught.losses(tokens[:, :-1], logits, counted, how.temperature)
    return (1 - weight) * of_text + weight * soft + apart


def _optimizer(network: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW without decay, which draws the weights of few bits to their thresholds; see docs/accuracy.md."""
    layers = [m for m in network.modules() if isinstance(m, (GroupScaledLinear, BinaryLayer))]
    scales = [m.scale for m in layers if isinstance(m, GroupScaledLinear)]
    own = {id(p) for p in scales}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
    groups = [{"params": rest, "rate": rate}, {"params": scales, "rate": _RATE_OF_SCALES * rate}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate, betas=_BETAS, weight_decay=0.0, fused=True)


def _share(progress: float, warm_up: float) -> float:
    """The share of the highest learning rate: a warm-up, then a cosine."""
    return progress / warm_up if progress < warm_up else 0.5 * (1 + math.cos(math.pi * progress))


def _step(optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor, share: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = share * group["rate"]
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_((p for p in network.parameters() if p.grad is not None), _CLIP)
    optimizer.step()
