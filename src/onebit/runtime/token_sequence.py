"""The tokens of one text in the engine, with what a language model remembers of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError

_INT32 = np.dtype(np.int32)


class TokenSequence:
    """A text token by token, in a session's engine; made by `TextSession.sequence`. It corresponds to `onebit_sequence` of the C API.

    Use it in a `with` block: at its end the keys and values of the tokens are freed.

    Example:
        >>> session = onebit.load("books")
        >>> with session.sequence() as sequence:
        ...     logits = sequence.feed([session.tokenizer.separator, *session.tokenizer.encode("It was")])
        >>> len(logits) == session.tokenizer.size
        True
    """

    def __init__(self, engine: Any, check: Callable[[Sequence[int] | NDArray[Any]], NDArray[np.int32]]) -> None:
        self._engine, self._check = engine, check
        self._number: int = engine.open()
        self._open = True

    def feed(self, tokens: Sequence[int] | NDArray[Any], all: bool = False) -> NDArray[np.float32]:
        """Append tokens in one pass.

        Args:
            tokens: ids, one or more. An array of int32 is taken as it is, without a copy.
            all: gives the logits after each token, not only after the last.

        Returns:
            float32 (vocabulary,), or (tokens, vocabulary) with `all`.

        Raises:
            DataError: no token is given, one is out of range, or they do not fit into the context.
        """
        if not self._open:
            self._need_open()
        # A token takes some tens of microseconds, so only little is checked here for each. The engine checks the rest.
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
        """Forget the tokens from `length` on; raises DataError where there are fewer."""
        self._need_open()
        try:
            self._engine.cut(self._number, length)
        except ValueError as error:
            raise DataError(str(error)) from None

    def __len__(self) -> int:
        self._need_open()
        return int(self._engine.length(self._number))

    def close(self) -> None:
        """Free what the engine remembers of the tokens; the sequence cannot be used after it."""
        if self._open:
            self._open = False
            self._engine.close(self._number)

    def _need_open(self) -> None:
        # The engine may have given the number to another text.
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
