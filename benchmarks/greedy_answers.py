"""Compare the greedy answers of an imported language model with llama.cpp's, and say how near to each other the first tokens are that differ.

    python benchmarks/greedy_answers.py MODEL.gguf [--tokens 100] [--wide int8] [--threads 1]

needs `llama-cpp-python`. llama.cpp rounds the inputs of quantised matrices to int8, in groups of 32; onebit computes in float32 here. So each
prompt is answered three times: by onebit, by llama.cpp, and by llama.cpp with weights and cache in float32, where it rounds nothing. Where an
answer leaves onebit's, the table has the gap between the logits of the two tokens without rounding, and by how much rounding changes the logits
of that place (the standard deviation over the vocabulary). A gap of a few times that is within rounding.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import onebit
from onebit.importing import import_model
from onebit.importing.source_logits import LlamaCpp
from onebit.runtime.chat import prompt_tokens
from onebit.runtime.text import TextSession
from onebit.subwords import SubwordTask
from onebit.tables import lay_out

PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three fruits.",
    "What is 2 plus 2?",
    "Who wrote Hamlet?",
    "Explain rain to a child.",
    "Name a colour.",
    "What is a computer?",
    "Give me a short poem about autumn.",
    "How do plants grow?",
)


@dataclass(frozen=True)
class Answer:
    """An answer of onebit compared with one of llama.cpp.

    Args:
        equal: how many tokens are equal before the first that differs, or all.
        tokens: how many onebit's has.
        gap: between the logits of the two tokens at the first difference, without rounding; None if there is none.
        rounding: by how much rounding changes the logits there.
    """

    equal: int
    tokens: int
    gap: float | None = None
    rounding: float | None = None


def as_float32(source: Path, target: Path) -> None:
    """Write the weights of a GGUF file as float32, as llama.cpp reads them."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.allow_requantize, options.pure, options.nthread = 0, True, True, 1
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(options)) != 0:
        raise SystemExit(f"{source}: llama.cpp does not write it as float32")


def greedy(model: Any, prompt: list[int], ends: tuple[int, ...], count: int) -> list[int]:
    """An answer of llama.cpp."""
    made: list[int] = []
    model.reset()
    for token in model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
        if token in ends or len(made) == count:
            break
        made.append(int(token))
    return made


def first_difference(ours: list[int], theirs: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))


def compared(ours: list[int], theirs: list[int], prompt: list[int], rounded: LlamaCpp, exact: LlamaCpp) -> Answer:
    """Two answers to a prompt, of onebit and of llama.cpp with rounding."""
    place = first_difference(ours, theirs)
    if place == len(ours) == len(theirs):
        return Answer(place, place)
    text = prompt + ours[:place]
    with_rounding, without = rounded.logits(text)[-1], exact.logits(text)[-1]
    both = np.sort(without)[-2:] if place in (len(ours), len(theirs)) else without[[ours[place], theirs[place]]]
    return Answer(place, len(ours), float(abs(both[0] - both[1])), float((with_rounding - without).std()))


def answers(source: Path, folder: Path, wide: Any, count: int, threads: int) -> list[list[str]]:
    """The rows of the table."""
    import_model(source, folder / "m.onebit", wide=wide)
    session = onebit.load(folder / "m.onebit", precision="float32", threads=threads)
    assert isinstance(session, TextSession) and isinstance(session.task, SubwordTask)
    rounded = LlamaCpp(source, count + 200, threads)  # it makes llama.cpp silent too
    as_float32(source, folder / "float32.gguf")
    exact = LlamaCpp(folder / "float32.gguf", count + 200, threads, type_k=0, type_v=0)  # its cache in float32 too
    rows = []
    for question in PROMPTS:
        messages = [{"role": "user", "content": question}]
        prompt = prompt_tokens(session.task.chat_template or "", messages, session.tokenizer)
        ours = list(session.write_chat(messages, count, temperature=0).tokens)
        theirs, theirs_exact = (greedy(m.model, prompt, session.tokenizer.ends, count) for m in (rounded, exact))
        found = compared(ours, theirs, prompt, rounded, exact)
        rows.append(
            [
                question,
                str(found.tokens),
                str(first_difference(ours, theirs_exact)),
                str(found.equal),
                "" if found.gap is None else f"{found.gap:.3f}",
                "" if found.rounding is None else f"{found.rounding:.3f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file with a template for chats")
    parser.add_argument("--tokens", type=int, default=100, help="of an answer at most")
    parser.add_argument("--wide", choices=("int8", "float32"), default="int8", help="as for onebit import")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = answers(args.model, Path(folder), args.wide, args.tokens, args.threads)
    heading = ["prompt", "tokens", "equal, float32 inputs", "equal, as it is", "gap of logits", "rounding"]
    total = ["all", *(str(sum(int(row[i]) for row in rows)) for i in (1, 2, 3)), "", ""]
    print(lay_out([heading, *rows, total], right=range(1, 6)))
    print(f"\n{args.model.name}, --wide {args.wide}, {rounded_name()}", file=sys.stderr)


def rounded_name() -> str:
    import llama_cpp

    return f"llama-cpp-python {llama_cpp.__version__}, onebit {onebit.__version__}"


if __name__ == "__main__":
    main()
