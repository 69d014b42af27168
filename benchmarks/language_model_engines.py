"""The engines of benchmarks/language_models.py, each in its own process: a line with a job's name gives its times.

    python benchmarks/language_model_engines.py ENGINE FILE THREADS

Only NumPy and the engine itself are imported, so that an engine may live in another environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import pin

PROMPT, START, TOKENS = 512, 16, 16
CONTEXT = PROMPT + 64
# Feeds tokens from a position on and gives the logits of the last; position 0 begins a new text.
Feed = Callable[[list[int], int], Any]


def onebit(path: str, threads: int) -> tuple[Feed, str]:
    import onebit as library

    session: Any = library.load(path, threads=threads)
    held: list[Any] = []

    def feed(tokens: list[int], position: int) -> Any:
        if position == 0:
            for sequence in held:
                sequence.close()
            held[:] = [session.sequence()]
        return held[0].feed(np.array(tokens, np.int32))

    return feed, f"{library.__version__}, {session.isa}"


def llama(path: str, threads: int) -> tuple[Feed, str]:
    import llama_cpp as library

    library.llama_backend_init()
    model = library.llama_model_load_from_file(path.encode(), library.llama_model_default_params())
    if not model:
        raise RuntimeError("it does not load the file")
    options = library.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = CONTEXT, PROMPT, PROMPT
    options.n_threads = options.n_threads_batch = threads
    context = library.llama_init_from_model(model, options)
    if not context:
        raise RuntimeError("it makes no context")
    vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))

    def feed(tokens: list[int], position: int) -> Any:
        library.llama_memory_seq_rm(library.llama_get_memory(context), 0, position, -1)
        given = (library.llama_token * len(tokens))(*tokens)  # the batch points into it
        if status := library.llama_decode(context, library.llama_batch_get_one(given, len(tokens))):
            raise RuntimeError(f"llama_decode gives {status}")
        return np.ctypeslib.as_array(library.llama_get_logits_ith(context, -1), (vocabulary,))

    return feed, f"{library.__version__}, {library.llama_print_system_info().decode().strip()}"


def ik_llama(path: str, threads: int) -> tuple[Feed, str]:
    import ik_llama_cpp
    from ik_llama_cpp import _ctypes_api as library
    from ik_llama_cpp._internals import make_batch_range

    library.llama_backend_init()
    options: Any = library.llama_model_default_params()
    # Its layouts of interleaved rows are made at load; they cannot be mapped.
    options.use_mmap, options.repack_tensors = False, True
    model = library.llama_model_load_from_file(path.encode(), options)
    if not model:
        raise RuntimeError("it does not load the file")
    options = library.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = CONTEXT, PROMPT, PROMPT
    options.n_threads = options.n_threads_batch = threads
    options.flash_attn = True
    context = library.llama_init_from_model(model, options)
    if not context:
        raise RuntimeError("it makes no context")
    vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))

    def feed(tokens: list[int], position: int) -> Any:
        if position == 0:
            library.llama_kv_cache_clear(context)
        batch = make_batch_range(tokens, pos_start=position)
        status = library.llama_decode(context, batch)
        library.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode gives {status}")
        logits = library.llama_get_logits_ith(context, -1)
        return np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (vocabulary,))

    return feed, f"{ik_llama_cpp.__version__}"


ENGINES = {"onebit": onebit, "llama.cpp": llama, "ik_llama.cpp": ik_llama}


# Milliseconds that passed, and those of them that this process computed: on a busy machine the second ones say more, if threads do not spin.
Times = list[tuple[float, float]]


def timed(feed: Feed, tokens: list[int], position: int) -> tuple[Any, tuple[float, float]]:
    """The logits after some tokens, and the two times."""
    start, computed = time.perf_counter(), time.process_time()
    logits = feed(tokens, position)
    return logits, ((time.perf_counter() - start) * 1e3, (time.process_time() - computed) * 1e3)


def decode(feed: Feed) -> Times:
    """Each of some tokens, chosen greedily after a short prompt."""
    logits, times = feed(list(range(START)), 0), []
    for i in range(TOKENS):
        logits, taken = timed(feed, [int(logits.argmax())], START + i)
        times.append(taken)
    return times


def prompt(feed: Feed) -> Times:
    """A prompt up to the logits of its last token."""
    tokens = np.random.default_rng(0).integers(0, 256, PROMPT).tolist()
    return [timed(feed, tokens, 0)[1]]


JOBS = {"decode": decode, "prompt": prompt}


def main() -> None:
    # Libraries print to standard output: send everything but answers to standard error.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        try:
            pin(int(sys.argv[3]))
            feed, about = ENGINES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
            if not np.isfinite(feed([1, 2, 3], 0)).all():
                raise RuntimeError("its logits are not finite")
            print(json.dumps({"about": about}), file=channel, flush=True)
            for line in sys.stdin:
                print(json.dumps({"ms": JOBS[line.strip()](feed)}), file=channel, flush=True)
        except ModuleNotFoundError as error:
            print(json.dumps({"failure": f"{error.name} is not installed"}), file=channel, flush=True)
        except Exception as error:
            print(json.dumps({"failure": f"{type(error).__name__}: {error}"}), file=channel, flush=True)
            raise


if __name__ == "__main__":
    main()
