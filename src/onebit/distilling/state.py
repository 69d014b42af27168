"""What an interrupted conversion leaves, so that it can go on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebit.errors import OnebitError
from onebit.models.decoder import LanguageDecoder

# A network of billions of parameters takes a while to write.
_SECONDS_BETWEEN = 300.0


class State:
    """The trained parameters beside the file that is to be written, and how far training has come.

    stage: "new", "blocks" or "whole".
    step: the number of blocks, or of steps of the whole network, that are done.
    perplexity: what was measured so far.

    Args:
        out: the file that is to be written.
        facts: what has to be the same when training goes on.
        resume: read what is there.

    Raises:
        OnebitError: there is nothing to go on with, or it is of another conversion.
    """

    def __init__(self, out: Path, facts: dict[str, Any], resume: bool) -> None:
        self.path = out.with_name(f"{out.name}.training")
        self._facts = facts
        self.stage, self.step, self.perplexity = "new", 0, dict[str, float]()
        self._parameters: dict[str, Tensor] = {}
        self._saved_at = time.monotonic()
        if resume:
            self._read()

    def _read(self) -> None:
        if not self.path.exists():
            raise OnebitError(
                f"[distill] {self.path} does not exist: there is nothing to go on with; start without resume"
            )
        try:
            kept = torch.load(self.path, weights_only=True)
            same = kept["facts"] == self._facts
            self.stage, self.step, self.perplexity = kept["stage"], kept["step"], kept["perplexity"]
            self._parameters = kept["parameters"]
        except Exception as error:  # torch.load raises many kinds
            raise OnebitError(
                f"[distill] {self.path} is damaged ({type(error).__name__}): start without resume"
            ) from None
        if not same:
            raise OnebitError(
                f"[distill] {self.path} is of another conversion: start without resume, or write another file"
            )

    @property
    def is_due(self) -> bool:
        """Whether the last saving was minutes ago."""
        return time.monotonic() - self._saved_at > _SECONDS_BETWEEN

    def save(self, network: LanguageDecoder) -> None:
        """Keep the parameters that are trained, whole or not at all. Raises OnebitError if they cannot be written."""
        trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
        new = self.path.with_name(f"{self.path.name}.new")
        kept = {"facts": self._facts, "stage": self.stage, "step": self.step, "perplexity": self.perplexity}
        try:
            torch.save(kept | {"parameters": trained}, new)
            new.replace(self.path)
        except (OSError, RuntimeError) as error:  # PyTorch's writer has an error of its own
            new.unlink(missing_ok=True)
            reason = str(error).split("\n")[0]
            raise OnebitError(
                f"[distill] {self.path} cannot be written ({reason}): make room, or write elsewhere"
            ) from None
        self._saved_at = time.monotonic()

    def load(self, network: LanguageDecoder) -> None:
        """Give a network the parameters that were kept. Blocks that were not done begin anew."""
        own = dict(network.named_parameters())
        undone = tuple(f"blocks.{i}." for i in range(self.step, len(network.blocks))) if self.stage == "blocks" else ()
        with torch.no_grad():
            for name, value in self._parameters.items():
                if not name.startswith(undone):
                    own[name].copy_(value)
        self._parameters = {}

    def remove(self) -> None:
        """Forget what was kept: the file is written."""
        self.path.unlink(missing_ok=True)
