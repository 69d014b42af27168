"""Compare the perplexity of an imported language model with llama.cpp's, on the same tokens of a text.

    python benchmarks/perplexity.py MODEL.gguf TEXT [--tokens 32768] [--window 512] [--wide int8 float32] [--threads 1]

needs `llama-cpp-python`. The text is cut into windows, as llama.cpp's own tool does: each is computed alone, and the tokens of its second half are
scored. llama.cpp rounds the inputs of quantised matrices to int8, and keeps keys and values in float16. onebit computes once with weights and inputs
in int8 and keys and values in bfloat16, and once with all in float32.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import onebit
from onebit.importing import import_model
from onebit.importing.source_logits import LlamaCpp
from onebit.metrics import nats_of
from onebit.runtime.text import TextSession
from onebit.tables import lay_out


def windows(tokens: list[int], starts: Sequence[int], size: int) -> list[list[int]]:
    """Whole windows of tokens, each after what begins every text."""
    step = size - len(starts)
    return [[*starts, *tokens[first : first + step]] for first in range(0, len(tokens) - step + 1, step)]


def nats(logits: Callable[[list[int]], NDArray[np.float32]], texts: list[list[int]], name: str) -> NDArray[np.float64]:
    """The negative log-probability of each token in the second halves."""
    found, start = [], time.perf_counter()
    for place, text in enumerate(texts):
        half = len(text) // 2
        rows = logits(text)[half - 1 : -1]
        found.append(nats_of(rows, np.asarray(text[half:], np.int64))[0])
        if place % 16 == 15:
            mean = np.exp(np.concatenate(found).mean())
            print(
                f"{name}: {place + 1} windows, perplexity {mean:.4f}, {time.perf_counter() - start:.0f} s", flush=True
            )
    return np.concatenate(found).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("text", type=Path, help="a text in UTF-8")
    parser.add_argument("--tokens", type=int, default=32768, help="of the text at most")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--wide", choices=("int8", "float32"), nargs="+", default=("int8", "float32"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(args, Path(folder))
    print(lay_out([["engine", "perplexity", "of llama.cpp's", "differs by"], *rows], right=(1, 2, 3)))


def compare(args: argparse.Namespace, folder: Path) -> list[list[str]]:
    files = {wide: folder / f"{wide}.onebit" for wide in args.wide}
    for wide, file in files.items():
        import_model(args.model, file, wide=wide)
    tokenizer = onebit.runtime.load_text_session(files[args.wide[0]], threads=1).tokenizer
    tokens = tokenizer.encode(args.text.read_text("utf-8"))[: args.tokens]
    texts = windows(tokens, tokenizer.starts, args.window)
    baseline = nats(LlamaCpp(args.model, args.window, args.threads).logits, texts, "llama.cpp")
    rows = [row("llama.cpp", baseline, baseline)]
    for wide, file in files.items():
        session = onebit.load(file, precision=wide, threads=args.threads)
        assert isinstance(session, TextSession)
        name = f"onebit, --wide {wide}, {wide} inputs"
        rows.append(row(name, nats(session.logits, texts, name), baseline))
    return rows


def row(name: str, found: NDArray[np.float64], baseline: NDArray[np.float64]) -> list[str]:
    """The perplexity, and its relative difference with twice the standard error of tokens' differences."""
    apart = found - baseline
    spread = 2 * apart.std() / np.sqrt(len(apart))
    difference = "" if found is baseline else f"{np.expm1(apart.mean()):+.2%} ± {spread:.2%}"
    return [name, f"{np.exp(found.mean()):.4f}", f"{np.exp(apart.mean()):.5f}", difference]


if __name__ == "__main__":
    main()
