"""The stages of a conversion in turn, with the perplexity after each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from onebit.data.tokens import TextSet
from onebit.distilling.state import State
from onebit.distilling.training import Training, round_and_train_blocks, train_on_logits
from onebit.errors import DataError
from onebit.models.decoder import LanguageDecoder
from onebit.progress import report

_EVALUATION_BATCH = 8


@dataclass
class Stages:
    """The stages of one conversion.

    Args:
        student: the network that is trained.
        teacher: the network it learns from; None where it learns from the text alone.
        masters: whether the student begins as the source itself, so that nothing is to be rounded.
        how: the settings.
        state: keeps what is done.
    """

    student: LanguageDecoder
    teacher: LanguageDecoder | None
    masters: bool
    how: Training
    state: State
    measured: int = 0

    def run(self, text: TextSet, examples: Tensor) -> int:
        """Run what is not done yet; returns the steps of the whole network.

        Args:
            text: to train on.
            examples: to measure on, (examples, window + 1).
        """
        how, state, student = self.how, self.state, self.student
        self.measured = examples[:, 1:].numel()
        batches = random_windows(text, how.window, how.batch, how.seed)
        try:
            self._begin(text, examples)
            for _ in range(state.step):
                next(batches)
            steps = train_on_logits(student, self.teacher, batches, how, self._done, state.step)
        except KeyboardInterrupt:
            if state.stage != "new":
                state.save(student)
            raise
        if steps > 0:
            state.save(student)
            state.perplexity["fine-tuned" if self.masters else "distilled"] = perplexity(student, examples)
        return steps

    def _begin(self, text: TextSet, examples: Tensor) -> None:
        """All stages before the whole network's training, or what is left of them."""
        how, state, found = self.how, self.state, self.state.perplexity
        if state.stage == "new":
            if self.masters or self.teacher is None:
                found["before"] = perplexity(self.student, examples)
            else:
                found["float"] = perplexity(self.teacher, examples)
                found["rounded"] = perplexity(self.student, examples)
            state.stage = "blocks"
        else:
            state.load(self.student)
        if state.stage == "blocks":
            if how.calibration and not self.masters and self.teacher is not None:
                some = next(random_windows(text, how.window, how.calibration, how.seed + 1))[:, :-1]
                round_and_train_blocks(self.student, self.teacher, some, how, self._done, state.step)
                found["blocks trained" if how.block_steps else "blocks rounded"] = perplexity(self.student, examples)
            state.stage, state.step = "whole", 0
            state.save(self.student)

    def _done(self, step: int) -> None:
        self.state.step = step
        if self.state.is_due:
            self.state.save(self.student)


def random_windows(text: TextSet, window: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Examples from anywhere in a text, int64 (batch, window + 1), without end. Raises DataError if the text is too short for one."""
    if len(text) < window + 2:
        raise DataError(f"[{text.source}] has {len(text)} tokens: needs more than {window + 1}; give more text")
    random = np.random.default_rng(seed)
    while True:
        starts = random.integers(len(text) - window, size=batch)
        yield torch.from_numpy(np.stack([text.tokens[s : s + window + 1] for s in starts]).astype(np.int64))


def in_order(text: TextSet, window: int, tokens: int) -> Tensor:
    """The first examples of a text, int64 (examples, window + 1). Raises DataError if the text is too short for one."""
    count = min(max(1, tokens // window), (len(text) - 1) // window)
    if count < 1:
        raise DataError(f"[{text.source}] has {len(text)} tokens: needs more than {window} to measure; give more text")
    rows = [text.tokens[i * window : (i + 1) * window + 1] for i in range(count)]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def perplexity(network: LanguageDecoder, examples: Tensor) -> float:
    """Of all tokens but the first of each example (examples, window + 1), each predicted from those before it in the example."""
    network.eval()
    total = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for number, part in enumerate(torch.split(examples, _EVALUATION_BATCH)):
            logits = network(part[:, :-1]).float()
            total += float(F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
            report("measure", number * _EVALUATION_BATCH + len(part), len(examples), "texts")
    return float(np.exp(min(total / examples[:, 1:].numel(), 700.0)))
