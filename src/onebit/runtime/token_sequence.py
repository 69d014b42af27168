"""The tokens of one text in the engine, with their KV cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError

_INT32 = np.dtype(np.int32)


class TokenSequence:
    """A text in the engine that is fed token by token. `TextSession.sequence` makes it. It corresponds to `onebit_sequence` in the C API.

    Use it in a `with` block, which frees the KV cache at its end.

    Example:
        >>> session = onebit.load("books")
        >>> with session.sequence() as sequence:
        ...     logits = sequence.feed([session.tokenizer.separator, *session.tokenizer.encode("It was")])
        >>> len(logits) == session.tokenizer.size
        True
    """

    def __init__(
        self,
        engine: Any,
        check: Callable[[Sequence[int] | NDArray[Any]], NDArray[np.int32]],
        saved: tuple[int, NDArray[np.uint8]] | None = None,
    ) -> None:
        self._engine, self._check = engine, check
        # A saved one: how many tokens it has, and what the engine kept of them.
        self._number: int = engine.open() if saved is None else engine.restore(*saved)
        self._open = True

    def feed(self, tokens: Sequence[int] | NDArray[Any], all: bool = False) -> NDArray[np.float32]:
        """Append tokens in one pass.

        Args:
            tokens: one or more ids. An int32 array is not copied.
            all: return the logits after each token, not only after the last.

        Returns:
            float32 (vocabulary,), or (tokens, vocabulary) with `all`.

        Raises:
            DataError: there are no tokens, one is out of range, or they do not fit in the context.
        """
        if not self._open:
            self._need_open()
        # A token takes only tens of microseconds, so few checks happen here. The engine checks the rest.
        if not (type(tokens) is np.ndarray and tokens.dtype is _INT32 and tokens.ndim == 1):
            tokens = self._check(tokens)
        if not len(tokens):
            raise DataError("[sequence] no tokens: give one or more")
        try:
            logits: NDArray[np.float32] = self._engine.extend([self._number], [len(tokens)], tokens, all=all)
        except ValueError as error:
            raise DataError(str(error)) from None
        return logits if all else logits[0]

    def cut(self, length: int) -> None:
        """Forget the tokens from `length` on. Raises DataError if there are fewer."""
        self._need_open()
        try:
            self._engine.cut(self._number, length)
        except ValueError as error:
            raise DataError(str(error)) from None

    def save(self) -> NDArray[np.uint8]:
        """What the engine keeps of the tokens, as bytes."""
        self._need_open()
        return np.frombuffer(self._engine.save(self._number), np.uint8)

    def __len__(self) -> int:
        self._need_open()
        return int(self._engine.length(self._number))

    def close(self) -> None:
        """Free the KV cache. The sequence cannot be used afterwards."""
        if self._open:
            self._open = False
            self._engine.close(self._number)

    def _need_open(self) -> None:
        # The engine may have reused the number for another text.
        if not self._open:
            raise DataError("[sequence] it is closed: open another one with session.sequence()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()
