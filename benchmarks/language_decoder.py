"""Compare the engine with PyTorch float32 on the paper's small language decoder (154 M parameters, context 256, batch 1), in one run.

    python benchmarks/language_decoder.py [--size small] [--threads 1 2] [--repeats 5] [--json FILE]

The weights are random bits, because speed and memory do not depend on them. Prints tokens per second at the beginning and at the end of the
context, the time of a prompt of 256 tokens, the packed file's size and load time, the resident memory of a process that generates with it, and
the times of a training step of `mini` and of its float twin. PyTorch uses a KV cache too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import cpu_name, interleaved_medians, print_training_steps, resident_bytes, training_steps

# Each runs in its own process, so that only what it needs is in memory.
ENGINE_MEMORY = """
import sys, onebit
session = onebit.load(sys.argv[1], threads=1)
count = sum(1 for _ in session.generate_tokens(["word " * 100], session.context, temperature=0, overflow="stop"))
"""
PYTORCH_MEMORY = """
import sys, torch
from onebit.models import language_decoder
torch.set_num_threads(1)
model = language_decoder(sys.argv[1], binary=False, form="paper").eval()
caches = model.caches()
with torch.inference_mode():
    model.extend(torch.zeros(1, 100, dtype=torch.long), caches)
    for _ in range(100):
        model.extend(torch.zeros(1, 1, dtype=torch.long), caches)
"""
LOAD = """
import sys, time
import onebit, onebit.runtime.text, onebit._engine
start = time.perf_counter()
onebit.load(sys.argv[1], threads=1)
print(time.perf_counter() - start)
"""
TOKENS = 24  # written in each measurement


def random_vocabulary(size: int) -> Any:
    """A vocabulary of the wanted size, with words as long as BERT's are."""
    from onebit.text import TextTask

    return TextTask(("[PAD]", "[UNK]", "[SEP]", *(f"token{i:05}" for i in range(size - 3))), "words", True)


def pack_random(size: str, path: Path) -> Any:
    """Pack a decoder of random bits; gives the report."""
    import torch

    import onebit
    from onebit.models import language_decoder
    from onebit.models.decoder import NAMED_SIZES

    model = language_decoder(size, form="paper")
    for parameter in model.parameters():
        if parameter.dim() == 1:
            # biases begin as zeros: half of their bits should be set, as after training
            torch.nn.init.normal_(parameter)
    return onebit.pack(model, path, random_vocabulary(NAMED_SIZES[size]["vocabulary"]))


def random_tokens(vocabulary: int, count: int) -> Any:
    """Tokens for a text, int32 (count,)."""
    return np.random.default_rng(0).integers(3, vocabulary, count).astype(np.int32)


def twin_writes(twin: Any, batch: Any, start: int) -> Callable[[], object]:
    """A job: PyTorch generates `TOKENS` tokens after the first `start` tokens of a batch of one text."""
    caches = twin.caches()
    if start:
        twin.extend(batch[:, :start], caches)

    def write() -> None:
        token = batch[:, :1]
        for cache in caches:
            cache.length = start
        for _ in range(TOKENS):
            token = twin.extend(token, caches).argmax(-1, keepdim=True)

    return write


def engine_writes(engine: Any, ids: Any, start: int, texts: int = 1) -> Callable[[], object]:
    """A job: the engine generates `TOKENS` tokens after the first `start` of `ids`, in each of some texts."""
    sequences = [engine.open() for _ in range(texts)]
    if start:
        engine.extend(sequences, [start] * texts, np.tile(ids[:start], texts))

    def write() -> None:
        tokens = ids[:texts]
        for sequence in sequences:
            engine.cut(sequence, start)
        for _ in range(TOKENS):
            tokens = engine.extend(sequences, [1] * texts, tokens).argmax(-1).astype(np.int32)

    return write


def engine_reads(engine: Any, ids: Any, every: bool = False) -> None:
    """The engine reads a prompt, for the last logits or for all of them."""
    sequence = engine.open()
    engine.extend([sequence], [len(ids)], ids, all=every)
    engine.close(sequence)


def measure_writing(path: Path, size: str, threads: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a token at the beginning and at the end of the context, of a token of each of four texts, and of a prompt."""
    import torch

    import onebit
    from onebit.models import language_decoder
    from onebit.runtime.text import TextSession

    torch.set_num_threads(threads)
    twin = language_decoder(size, binary=False, form="paper").eval()
    session = onebit.load(path, threads=threads)
    assert isinstance(session, TextSession)
    engine, end = session._engine, session.context - TOKENS
    ids = random_tokens(session.tokenizer.size, session.context)
    batch = torch.from_numpy(ids[None].astype(np.int64))
    with torch.inference_mode():
        written = interleaved_medians(
            {
                "PyTorch, token at the beginning": twin_writes(twin, batch, 0),
                "engine, token at the beginning": engine_writes(engine, ids, 0),
                "PyTorch, token at the end": twin_writes(twin, batch, end),
                "engine, token at the end": engine_writes(engine, ids, end),
                "engine, token of each of four texts": engine_writes(engine, ids, 0, 4),
            },
            repeats,
        )
        read = interleaved_medians(
            {
                "PyTorch, prompt": lambda: twin.extend(batch, twin.caches()),
                "engine, prompt": lambda: engine_reads(engine, ids),
                "PyTorch, prompt with all logits": lambda: twin(batch),
                "engine, prompt with all logits": lambda: engine_reads(engine, ids, True),
            },
            repeats,
        )
    return {name: value / TOKENS for name, value in written.items()} | read


def measure_training(threads: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a training step of `mini` as its recipe has it (8 texts of 256 tokens), binary and float twin."""
    import torch

    from onebit.images import ImageTask
    from onebit.training import load_recipe
    from onebit.training.jobs import build_model
    from onebit.training.recipe import TextRecipe

    torch.set_num_threads(threads)
    recipe = load_recipe("mini")
    assert isinstance(recipe, TextRecipe)
    task = random_vocabulary(int(recipe.data.vocabulary))
    assert not isinstance(task, ImageTask)
    tokens = torch.randint(0, int(recipe.data.vocabulary), (recipe.optimizer.batch_size, 257))

    def step(binary: bool, bf16: bool) -> Callable[[], object]:
        model = build_model(recipe.override({"binary": binary}), task)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    return training_steps(step, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=("tiny", "mini", "small", "large"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--training-repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    import torch

    import onebit

    torch.manual_seed(0)
    results: dict[str, Any] = {"cpu": cpu_name(), "torch": torch.__version__, "onebit": onebit.__version__}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.onebit"
        report = pack_random(arguments.size, path)
        results["file_bytes"] = report.file_bytes
        results["isa"] = onebit.load(path).isa
        print(f"{results['cpu']}, engine {results['isa']}, torch {torch.__version__}; decoder {arguments.size}")
        print(
            f"file: {report.file_bytes:,} bytes with its vocabulary, {report.ratio:.1f} times smaller than {report.bytes_before:,}"
        )
        loads = [
            float(
                subprocess.run(
                    [sys.executable, "-c", LOAD, str(path)], capture_output=True, text=True, check=True
                ).stdout
            )
            for _ in range(5)
        ]
        results["load_seconds"] = statistics.median(loads)
        print(f"load: {results['load_seconds']:.3f} s")
        memory = {
            "engine": resident_bytes(ENGINE_MEMORY, str(path)),
            "PyTorch": resident_bytes(PYTORCH_MEMORY, arguments.size),
        }
        results["resident_bytes"] = memory
        ratio = memory["PyTorch"] / memory["engine"]
        print(
            f"resident memory: engine {memory['engine'] / 1e6:.1f} MB, PyTorch {memory['PyTorch'] / 1e6:.1f} MB: {ratio:.1f} times less"
        )
        for threads in arguments.threads:
            times = measure_writing(path, arguments.size, threads, arguments.repeats)
            results[f"ms_{threads}_threads"] = times
            for name, value in times.items():
                line = f"{threads} threads, {name:<36} {value:9.3f} ms"
                twin = times.get(name.replace("engine", "PyTorch"))
                if name.startswith("engine") and twin is not None:
                    line += f", {twin / value:6.1f} x PyTorch float32"
                if "token" in name:
                    line += f", {(4 if 'four' in name else 1) * 1e3 / value:8.1f} tokens/s"
                print(line)
        for threads in arguments.threads:
            times = measure_training(threads, arguments.training_repeats)
            results[f"training_step_ms_{threads}_threads"] = times
            print_training_steps(times, threads)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
