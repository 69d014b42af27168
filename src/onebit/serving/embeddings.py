"""Texts as vectors: the mean of the values from which a language model computes its logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, OnebitError
from onebit.fileformat import load_model
from onebit.program import Program
from onebit.runtime.session import engine_options
from onebit.runtime.threads import ThreadPool
from onebit.subwords import text_task, tokenizer_for


class Embedder:
    """A language model without its last layer, in the engine. Several threads may use it; they take turns.

    Args:
        path: a packed language model.
        precision, pool, memory_cap: as for `onebit.load`.

    lead: how many tokens begin every text.

    Raises:
        OnebitError: the program does not end with a layer whose inputs are one row for each token.
    """

    def __init__(self, path: Path, precision: str, pool: ThreadPool, memory_cap: int) -> None:
        model = load_model(path)
        program = without_head(model.program)
        names = {name for step in program.steps for name in step.tensors.values()}
        tensors = {name: tensor for name, tensor in model.tensors.items() if name in names}
        from onebit._engine import Decoder

        try:
            self._engine: Any = Decoder(program.to_json(), tensors, **engine_options(precision, pool, None, memory_cap))
        except ValueError as error:
            raise OnebitError(f"[embeddings] this model gives none: {error}") from None
        self._tokenizer = tokenizer_for(text_task(model.task))
        self.lead = len(self._tokenizer.starts)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory in the engine."""
        return int(self._engine.memory_bytes)

    def tokens(self, text: str | list[int]) -> list[int]:
        """The tokens of a text, after those that begin every text. Raises DataError if they are out of range or too many."""
        ids = self._tokenizer.encode(text) if isinstance(text, str) else text
        wrong = next((token for token in ids if not 0 <= token < self._tokenizer.size), None)
        if wrong is not None:
            raise DataError(f"[embeddings] token {wrong} is out of range: use 0 to {self._tokenizer.size - 1}")
        if len(ids) + self.lead > self._engine.context:
            raise DataError(f"[embeddings] {len(ids)} tokens: give at most {self._engine.context - self.lead}")
        return [*self._tokenizer.starts, *ids] or [self._tokenizer.separator]

    def __call__(self, tokens: list[int]) -> NDArray[np.float32]:
        """The vector of tokens: the mean over them, of length 1."""
        sequence = self._engine.open()
        try:
            rows = self._engine.extend([sequence], [len(tokens)], np.array(tokens, np.int32), all=True)
        finally:
            self._engine.close(sequence)
        mean = rows.astype(np.float64).mean(0)
        vector: NDArray[np.float32] = (mean / (np.linalg.norm(mean) or 1.0)).astype(np.float32)
        return vector


def without_head(program: Program) -> Program:
    """A program that ends before the last dense layer. Raises OnebitError if there is none at its end."""
    makers = {step.output: step for step in program.steps}
    step = makers.get(program.output)
    while step is not None and "out_features" not in step.attributes and len(step.inputs) == 1:
        step = makers.get(step.inputs[0])
    if step is None or "out_features" not in step.attributes or step.inputs[0] not in makers:
        raise OnebitError("[embeddings] this model gives none: it does not end with a dense layer")
    needed = {step.inputs[0]}
    kept = []
    for maker in reversed(program.steps):
        if maker.output in needed:
            needed.update(maker.inputs)
            kept.append(maker)
    return replace(program, steps=tuple(reversed(kept)), output=step.inputs[0])
