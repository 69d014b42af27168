"""The demo on Python's own documentation and sources, which takes about three minutes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from onebit.data.text import load_validation_text
from onebit.demos.twins import bytes_of, clear, in_turns, table, train_both
from onebit.evaluation import evaluate_session
from onebit.packing import PackReport, pack
from onebit.printable import printable_text
from onebit.runtime import load_text_session
from onebit.runtime.text import TextSession
from onebit.sampling import Sampling
from onebit.training import Run, TextRecipe, load_recipe
from onebit.verification import verify

EPOCHS, EPOCH_STEPS = 6, 75
VALIDATION_TOKENS = 30_000  # the limit after each epoch; at the end all are counted
FLOAT_RATE = 1e-3  # the best learning rate of the float twin
FILE = "text.onebit"
PROMPT = "def read("
TEMPERATURE = 0.7
SAMPLE_TOKENS = 60
TIMED_TOKENS = 64


def demonstrate(out: Path, epochs: int | None = None, seed: int = 0) -> Iterator[str]:
    """Train both decoders, pack, verify and run the binary one, and generate text with both. See `onebit.demos.digits.demonstrate`."""
    overrides = {
        "epochs": EPOCHS if epochs is None else epochs,
        "epoch_steps": EPOCH_STEPS,
        "warmup": EPOCH_STEPS,
        "seed": seed,
        "validation_tokens": VALIDATION_TOKENS,
    }
    recipe = load_recipe("tiny").override(overrides, "demo")
    assert isinstance(recipe, TextRecipe)
    clear(out)
    start = time.monotonic()
    binary, twin = train_both(recipe, FLOAT_RATE, out, "decoder", "the text that comes with Python")
    file = out / FILE
    report = pack(binary.model, file, binary.task, binary.training)
    yield f"\nPacked: {report.parameters:,} parameters of one bit each, {report.ratio:.1f} times smaller than float32"
    verified = verify(file, binary, limit=4, threads=1)
    float32 = max(row.relative for row in verified.of("engine", "float32"))
    int8 = verified.of("engine", "int8")[0]
    yield (
        f"Verified: the engine differs from PyTorch by {float32:.0e} at float32, in one pass and token by token; "
        f"at int8 {int8.changed} of {int8.compared} most probable tokens change"
    )
    session = load_text_session(file)
    text, _ = load_validation_text(
        recipe.data.source, session.task, "document", share=recipe.data.validation_share, seed=recipe.run.seed
    )
    figures = evaluate_session(session, text).figures()
    yield _compared(binary, twin, report, file, figures)
    yield f"\n({figures['tokenizer']}; context {figures['context']}; {figures['tokens']:,} tokens counted)"
    sampling = Sampling(TEMPERATURE, seed=seed)
    for name, pieces in (
        ("binary, engine", session.generate(PROMPT, SAMPLE_TOKENS, sampling)),
        ("float, PyTorch", _twin_pieces(twin.model, session, sampling)),
    ):
        yield f"\n--- {name} ---\n{PROMPT}{printable_text(''.join(pieces))}"
    yield f"\n({time.monotonic() - start:.0f} s in all)"


def next_steps(command: str, file: str, samples: str) -> list[str]:
    """What a user can do with what the demo left."""
    return [
        f'{command} generate {file} "import "',
        f"{command} train tiny --data FILE_OR_FOLDER    with your own text",
    ]


def _compared(binary: Run, twin: Run, report: PackReport, file: Path, figures: dict[str, Any]) -> str:
    bits = (*(run.result()["validation_bits_per_byte"] for run in (twin, binary)), figures["bits_per_byte"])
    times = _times(twin.model, load_text_session(file, threads=1))
    return table(
        [
            ("bits per byte, validation", *(f"{value:.3f}" for value in bits)),
            ("bytes of parameters", f"{bytes_of(twin.model):,}", "", f"{report.parameter_bytes:,}"),
            ("bytes of the file", "", "", f"{report.file_bytes:,}"),
            ("ms per token (1 thread)", f"{times['PyTorch']:.3f}", "", f"{times['engine']:.3f}"),
        ]
    )


def _times(twin: Any, session: TextSession) -> dict[str, float]:
    """Milliseconds per token of the float twin in PyTorch, with a KV cache, and of the engine."""
    caches = twin.caches()
    step = torch.full((1, 1), session.tokenizer.separator)
    engine = session.generate("", TIMED_TOKENS, 0, overflow="stop")
    return in_turns(
        {"PyTorch": lambda: twin.extend(step, caches), "engine": lambda: next(engine, "")}, TIMED_TOKENS // 2
    )


def _twin_pieces(twin: Any, session: TextSession, sampling: Sampling) -> Iterator[str]:
    """The text of the float twin, with the same sampling as the engine's text."""
    tokenizer, random = session.tokenizer, sampling.chance()
    prompt = [tokenizer.separator, *tokenizer.encode(PROMPT)]

    def tokens() -> Iterator[int]:
        caches = twin.caches()
        new = torch.tensor([prompt])
        with torch.inference_mode():
            for _ in range(SAMPLE_TOKENS):
                logits = twin.extend(new, caches)[0].float().numpy()
                token = sampling.choose(logits, prompt, random, session.never)
                if token == tokenizer.separator:
                    return
                yield token
                new = torch.tensor([[token]])

    return (piece for _, piece in tokenizer.stream(tokens(), prompt))
