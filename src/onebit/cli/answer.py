"""An answer of `onebit chat`, printed as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from onebit.printable import printable_text


def print_answer(pieces: Iterable[str]) -> None:
    """Print the tokens, and how fast they came. Ctrl-C stops the answer, not the program."""
    start, count = time.perf_counter(), 0
    try:
        for piece in pieces:
            count += 1
            print(printable_text(piece), end="", flush=True)
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    print(flush=True)
    seconds = time.perf_counter() - start
    print(f"[{count} tokens, {count / seconds:.1f} a second]", file=sys.stderr, flush=True)
