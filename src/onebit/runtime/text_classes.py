"""Sessions of packed classifiers of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, OnebitError
from onebit.fileformat import PackedModel
from onebit.paths import expand
from onebit.printable import printable
from onebit.runtime.answer import Labels
from onebit.runtime.session import MEMORY_CAP, ArraySession, Precision, best_labels, decoder_of, engine_options, softmax
from onebit.runtime.threads import ThreadPool
from onebit.runtime.token_sequence import TokenSequence
from onebit.tasks.text_classes import TextClassification
from onebit.text import TextTask, Tokenizer


class TextClassSession(ArraySession):
    """A packed classifier of texts in the engine. `load` returns it.

    Call it with tokens for logits at each of them:

    Args:
        batch: integers (n, tokens), at most the context.

    Returns:
        float32 logits (n, tokens, classes).

    Raises:
        DataError: the batch has another shape or type, or a token that is not in the vocabulary.
    """

    task: TextClassification

    def __init__(
        self,
        model: PackedModel,
        precision: Precision = "int8",
        threads: int | ThreadPool | None = None,
        isa: str | None = None,
        memory_cap: int = MEMORY_CAP,
        pin_threads: bool = False,
        device: str = "cpu",
    ) -> None:
        if device != "cpu":
            raise OnebitError(f"[load] device={device!r}: classifiers of texts run on the CPU")
        self.task = TextClassification.from_json(model.task)
        self.tokenizer = Tokenizer(TextTask(tuple(self.task.vocabulary.split("\n"))))
        options = engine_options(precision, threads, isa, memory_cap, pin_threads)
        self._engine = decoder_of(model, options, None)
        self.program = model.program
        self.input_shape = model.program.input_shape
        self.output_shape = model.shapes[model.program.output]

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        if not isinstance(batch, np.ndarray) or batch.ndim != 2 or batch.dtype.kind not in "iu":
            raise DataError("[Session] give tokens, a NumPy array of integers (n, tokens)")
        return np.stack([self._logits(ids) for ids in batch])

    def classify(self, texts: Sequence[str], top: int = 5) -> list[list[tuple[str, float]]]:
        """Classify texts.

        Args:
            texts: any length; a text longer than the context is read in parts of that length, and the answer is the mean of theirs.
            top: the number of labels for each text.

        Returns:
            For each text its most probable labels with their probabilities, the most probable first.

        Raises:
            DataError: a text is empty, or texts are not a list.
        """
        if isinstance(texts, str):
            raise DataError("[Session.classify] give a list of texts, even for one")
        if top < 1:
            raise OnebitError(f"[Session.classify] top={top}: use 1 or more")
        return [best_labels(self._probabilities(text), self.task.labels, top) for text in texts]

    def answer(self, source: str | Path, top: int = 5) -> Labels:
        path = expand(source)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"[{printable(path)}] is not text in UTF-8") from None
        except OSError as error:
            raise DataError(f"[{printable(path)}] cannot be read: {error.strerror}") from None
        return Labels(tuple(self.classify([text], top)[0]))

    def _logits(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """The logits at each of a text's tokens."""
        most = self.tokenizer.size
        if not 1 <= len(ids) <= self.task.context or ids.min() < 0 or ids.max() >= most:
            raise DataError(f"[Session] give 1 to {self.task.context} tokens, integers from 0 to {most - 1}")
        with TokenSequence(self._engine, lambda tokens: np.asarray(tokens, np.int32)) as sequence:
            return sequence.feed(ids, all=True)

    def _probabilities(self, text: str) -> NDArray[np.float32]:
        if not isinstance(text, str) or not text.strip():
            raise DataError("[Session.classify] a text is empty: give one with words")
        ids, context = np.array(self.tokenizer.encode(text), np.int32), self.task.context
        parts = [ids[i : i + context] for i in range(0, len(ids), context)]
        last = np.stack([self._logits(part)[-1] for part in parts])
        # Each part counts by its length: a rest of a few tokens says little.
        mean: NDArray[np.float32] = np.average(softmax(last), 0, [len(part) for part in parts]).astype(np.float32)
        return mean
