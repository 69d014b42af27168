"""Check the arguments of text generation, and collect and describe its result."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

from onebit.errors import DataError, OnebitError
from onebit.sampling import Sampling, SamplingOptions, is_integer
from onebit.text import valid_text

Overflow = Literal["slide", "stop"]


def sampling_of(sampling: Sampling | float | None, options: SamplingOptions) -> Sampling:
    """How to choose tokens: a `Sampling`, a temperature, or None for the defaults. `options` replace single fields."""
    if isinstance(sampling, Sampling):
        return replace(sampling, **options)
    if sampling is not None:
        options = {"temperature": sampling, **options}
    return Sampling(**options)


def check_length(max_new_tokens: object, overflow: object) -> None:
    """Check the number of tokens and `overflow`. Raises OnebitError if one is not valid."""
    if not is_integer(max_new_tokens, 1):
        raise OnebitError(f"[generate] max_new_tokens={max_new_tokens!r}: use an integer from 1 up")
    if not isinstance(overflow, str) or overflow not in ("slide", "stop"):
        raise OnebitError(f"[generate] overflow={overflow!r}: use 'slide' or 'stop'")


def check_stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """The texts that end generation. Raises OnebitError if one is empty or not a text."""
    if stop is None:
        return ()
    texts = (stop,) if isinstance(stop, str) else stop
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise OnebitError(f"[generate] stop={stop!r}: give a text, a list of texts, or None")
    if not all(texts):
        raise OnebitError("[generate] stop is empty: give a text, or None")
    return tuple(texts)


@dataclass(frozen=True)
class Written:
    """The result of `TextSession.write`. `str` is the prompt with its continuation.

    Args:
        prompt: the prompt.
        text: the continuation.
        prompt_tokens: the number of tokens of the prompt.
        tokens: the new tokens.
        first_token_ms: milliseconds to the first new token, including the pass over the prompt; None without a new token.
        seconds: seconds to the last token.
        precision, cache, threads: the session's.
        shared_tokens: the tokens of the prompt that were not computed again, because the session's last chat has them.
    """

    prompt: str
    text: str
    prompt_tokens: int
    tokens: tuple[int, ...]
    first_token_ms: float | None
    seconds: float
    precision: str
    cache: str
    threads: int
    shared_tokens: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """New tokens per second, including the pass over the prompt; None without a new token."""
        return len(self.tokens) / self.seconds if self.seconds else None

    def __str__(self) -> str:
        return self.prompt + self.text

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with rounded times."""
        first, rate = self.first_token_ms, self.tokens_per_second
        return {
            "prompt": self.prompt,
            "text": self.text,
            "prompt_tokens": self.prompt_tokens,
            "shared_tokens": self.shared_tokens,
            "tokens": list(self.tokens),
            "new_tokens": len(self.tokens),
            "first_token_ms": None if first is None else round(first, 3),
            "seconds": round(self.seconds, 4),
            "tokens_per_second": None if rate is None else round(rate, 1),
            "precision": self.precision,
            "cache": self.cache,
            "threads": self.threads,
        }


def not_empty(pieces: Generator[tuple[list[int], str]]) -> Generator[str]:
    """The pieces that are not empty."""
    # Closed explicitly: an abandoned generator expression keeps its source until it is collected itself (Python 3.12).
    with closing(pieces):
        for _, piece in pieces:
            if piece:
                yield piece


def valid_prompt(text: str, what: str, stacklevel: int = 3) -> str:
    """A caller's text in a form that can be encoded. Warns if that changes it."""
    if not isinstance(text, str):
        raise DataError(f"[{what}] the text is a {type(text).__name__}: give a str")
    valid, replaced = valid_text(text)
    if replaced:
        message = f"[{what}] the text is not valid Unicode: U+FFFD replaces it in {replaced:,} places"
        warnings.warn(message, stacklevel=stacklevel)
    return valid


def valid_prompts(prompts: Sequence[str]) -> list[str]:
    """Several texts in a form that can be encoded. Warns if that changes one."""
    if isinstance(prompts, (str, bytes)) or not isinstance(prompts, Iterable):
        raise DataError("[generate] give a list of prompts, even for one")
    valid = []
    for prompt in prompts:
        valid.append(valid_prompt(prompt, "generate", stacklevel=4))  # noqa: PERF401 (a comprehension is a level in Python 3.11 only)
    return valid
