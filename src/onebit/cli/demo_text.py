"""`onebit demo text`: the whole way for language, on the documentation and sources that come with Python, in about three minutes."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from onebit.printable import printable, printable_text

EPOCHS, EPOCH_STEPS = 6, 75
VALIDATION_TOKENS = 30_000  # after each epoch; at the end all are counted
TWIN_RATE = 1e-3  # what the float twin learns best at
PROMPT = "def read("
SAMPLE_TOKENS = 60
TIMED_TOKENS = 64


def run(args: argparse.Namespace) -> int:
    from onebit.cli.demo import clear, command_name, print_table
    from onebit.data.text import load_validation_text
    from onebit.evaluation import evaluate_session
    from onebit.packing import pack
    from onebit.runtime import load_text_session
    from onebit.training import TextRecipe, load_recipe, train
    from onebit.verification import verify

    overrides = {
        "epochs": EPOCHS if args.epochs is None else args.epochs,
        "epoch_steps": EPOCH_STEPS,
        "warmup": EPOCH_STEPS,
        "seed": args.seed,
    }
    recipe = load_recipe("tiny").override(overrides | {"validation_tokens": VALIDATION_TOKENS}, "demo")
    assert isinstance(recipe, TextRecipe)
    clear(args.out)
    start = time.monotonic()
    runs = {}
    for name, keys in (("binary", {"binary": True}), ("float", {"binary": False, "learning_rate": TWIN_RATE})):
        what = "decoder of single bits" if name == "binary" else "float twin"
        print(f"Training the {what} on the text that comes with Python ...", file=sys.stderr, flush=True)
        runs[name] = train(recipe.override(keys), args.out / name)
    file = args.out / "text.onebit"
    print()
    report = pack(runs["binary"].model, file, runs["binary"].task, runs["binary"].training)
    print(f"Packed: {report.parameters:,} parameters of one bit each, {report.ratio:.1f} times smaller than float32")
    verified = verify(file, runs["binary"], limit=4, threads=1)
    float32 = max(row.relative for row in verified.of("engine", "float32"))
    int8 = verified.of("engine", "int8")[0]
    print(
        f"Verified: the engine differs from PyTorch by {float32:.0e} at float32, in one pass and token by token; "
        f"at int8 {int8.changed} of {int8.compared} most probable tokens change"
    )
    session = load_text_session(file)
    text, _ = load_validation_text(
        recipe.data, session.task, "document", share=recipe.validation_share, seed=recipe.seed
    )
    engine = evaluate_session(session, text).figures()
    results = {name: finished.result() for name, finished in runs.items()}
    single = load_text_session(file, threads=1)
    times = _time_both(runs["float"].model, single)
    float_bytes = 4 * sum(p.numel() for p in runs["float"].model.parameters())
    print_table(
        [
            ("", "float, PyTorch", "binary, PyTorch", "binary, engine int8"),
            (
                "bits per byte, validation",
                f"{results['float']['validation_bits_per_byte']:.3f}",
                f"{results['binary']['validation_bits_per_byte']:.3f}",
                f"{engine['bits_per_byte']:.3f}",
            ),
            ("bytes of parameters", f"{float_bytes:,}", "", f"{report.parameter_bytes:,}"),
            ("bytes of the file", "", "", f"{report.file_bytes:,}"),
            ("ms per token (1 thread)", f"{times['PyTorch']:.3f}", "", f"{times['engine']:.3f}"),
        ]
    )
    print(f"\n({engine['tokenizer']}; context {engine['context']}; {engine['tokens']:,} tokens counted)")
    for name, pieces in (
        ("binary, engine", session.generate(PROMPT, SAMPLE_TOKENS, 0.7, seed=args.seed)),
        ("float, PyTorch", _twin_pieces(runs["float"], session, args.seed)),
    ):
        print(f"\n--- {name} ---\n{PROMPT}{printable_text(''.join(pieces))}")
    print(f"\n({time.monotonic() - start:.0f} s in all)")
    command, shown = printable(command_name()), printable(file)
    print("Next:")
    print(f'  {command} generate {shown} "import "')
    print(f"  {command} info {shown}")
    print(f"  {command} train tiny --data FILE_OR_FOLDER    with your own text")
    return 0


def _time_both(twin: Any, session: Any) -> dict[str, float]:
    """Milliseconds per token of PyTorch's float twin with a cache and of the engine, one thread each, taking turns."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    separator = session.tokenizer.separator
    caches = twin.caches()
    step = torch.full((1, 1), separator)
    engine = session.generate("", TIMED_TOKENS, 0, overflow="stop")
    jobs: dict[str, Callable[[], Any]] = {
        "PyTorch": lambda: twin.extend(step, caches),
        "engine": lambda: next(engine, ""),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with torch.inference_mode():
        for _ in range(TIMED_TOKENS // 2):
            for name, job in jobs.items():
                begin = time.perf_counter()
                job()
                times[name].append(1e3 * (time.perf_counter() - begin))
    engine.close()
    torch.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in times.items()}


def _twin_pieces(run: Any, session: Any, seed: int) -> Iterator[str]:
    """What the float twin writes, by the same rule as the engine's text."""
    import torch

    from onebit.sampling import Sampling

    tokenizer, sampling = session.tokenizer, Sampling(0.7, seed=seed)
    random = sampling.chance()
    prompt = [tokenizer.separator, *tokenizer.encode(PROMPT)]

    def tokens() -> Iterator[int]:
        caches = run.model.caches()
        new = torch.tensor([prompt])
        with torch.inference_mode():
            for _ in range(SAMPLE_TOKENS):
                logits = run.model.extend(new, caches)[0].float().numpy()
                token = sampling.choose(logits, prompt, random, (tokenizer.pad, tokenizer.unknown))
                if token == tokenizer.separator:
                    return
                yield token
                new = torch.tensor([[token]])

    return (piece for _, piece in tokenizer.stream(tokens(), prompt))
