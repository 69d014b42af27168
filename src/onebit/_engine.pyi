from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def isas() -> list[dict[str, Any]]:
    """The instruction sets of this build, the best last: name, text, needs, supported."""

def calibration(isa: str) -> dict[str, Any]:
    """Which ways a set takes on this machine: most_rows and least_image_gain (None: no limit, never), least_divided, source, file."""

def choose(
    scores: NDArray[Any], draws: Sequence[tuple[float, int, float, float, float]], never: Sequence[int]
) -> list[int]:
    """The next token after each row of scores, float32 or float64 (texts, vocabulary); -1 where no score is a number.

    Args:
        draws: of each row temperature, top_k (0 for all), top_p, min_p, and a random number from 0 up to below 1.
        never: tokens that are not chosen.
    """

class ThreadPool:
    """Threads that runners share; with a pool, `threads` and `pin` of a runner are not looked at."""

    def __init__(self, threads: int, pin: bool = False) -> None: ...
    @property
    def threads(self) -> int: ...

class _Runner:
    def __init__(
        self,
        program: str,
        tensors: dict[str, NDArray[Any]],
        precision: str,
        threads: int,
        isa: str | None = None,
        memory_cap: int = ...,
        pin: bool = False,
        cache: str | None = None,
        pool: ThreadPool | None = None,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def arena_bytes(self) -> int: ...
    def plan(self) -> list[dict[str, Any]]: ...
    def time_nodes(self) -> None:
        """Time runs from now on, node by node, beginning at 0."""

    def nanoseconds(self) -> list[int]:
        """Of each line of the plan, all runs since `time_nodes`; empty before."""

class Engine(_Runner):
    """A program in the engine; raises ValueError where the program, its tensors or an argument do not fit."""

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Compute a batch, uint8 or float32 (n, *input shape), to float32 (n, *output shape)."""

    def run_to_exits(
        self, batch: NDArray[Any], threshold: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """`run`, and how many exits each example passed. A threshold takes the place of those of all exits; 1 lets nothing end early."""

class Decoder(_Runner):
    """A program over tokens in the engine, with the caches of any number of sequences; raises ValueError as Engine does."""

    @property
    def cache(self) -> str:
        """As what keys and values are kept: float32, bf16 or int8."""

    @property
    def context(self) -> int:
        """The most tokens of a sequence."""

    @property
    def outputs(self) -> int:
        """Numbers that the program gives for each token."""

    def open(self) -> int:
        """A new, empty sequence."""

    def fork(self, sequence: int, length: int) -> int:
        """A new sequence with a copy of the first `length` tokens of one."""

    def save(self, sequence: int) -> bytes:
        """What the engine keeps of a sequence's tokens."""

    def restore(self, length: int, saved: NDArray[np.uint8]) -> int:
        """A new sequence of `length` tokens, of what `save` gave."""

    def close(self, sequence: int) -> None:
        """Forget a sequence; its number may be given again."""

    def length(self, sequence: int) -> int:
        """How many tokens it has."""

    def cut(self, sequence: int, length: int) -> None:
        """Forget its tokens from `length` on."""

    def extend(
        self, sequences: Sequence[int], counts: Sequence[int], tokens: NDArray[np.int32], all: bool = False
    ) -> NDArray[np.float32]:
        """Append counts[i] of the tokens to sequences[i]; the outputs after each token (`all`), or after the last of each sequence."""

class Tokenizer:
    """WordPiece over bytes or words; raises ValueError where the vocabulary, one token in each line, is not one."""

    def __init__(self, vocabulary: str, of_bytes: bool, lowercase: bool) -> None: ...
    def encode(self, text: str) -> NDArray[np.int32]:
        """The tokens of a text without surrogates."""

    def encode_many(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The tokens of each text; other threads run meanwhile."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to a text; of words with a space before each."""

    def word(self, token: int, first: bool) -> str:
        """What a token of words adds to a text."""
