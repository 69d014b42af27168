"""Compare the logits of GGUF files in llama.cpp and in onebit, on the same tokens.

    python tests/importing/compare_llama_cpp.py FILE.gguf FILE.onebit ...

needs `llama-cpp-python`. A packed file is exported to GGUF first. Without files it compares the small random models of `random_models.py`.
llama.cpp keeps keys and values in float16, and rounds the inputs of matrices of few bits to int8; onebit computes in float32 here.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import random_models as made

import onebit
from onebit.exports import export
from onebit.importing import import_model

CODED = {"F32": None, "Q1_0": made.as_q1_0, "Q2_0": made.as_q2_0, "TQ2_0": made.as_tq2_0, "Q8_0": made.as_q8_0}


def random_files(folder):
    """Random models in each type; llama.cpp needs as many tokens as rows of the embedding."""
    tokens = list(made.tokenizer()["model"]["vocab"])
    tokens += [f"<|unused {i}|>" for i in range(len(tokens), made.VOCABULARY)]
    types = [(5, 3 if token == "<|end|>" else 1) for token in tokens]
    metadata = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    for name in ("wide qwen3", "wide llama"):
        for kind, encode in CODED.items():
            coded = encode and (lambda weight, encode=encode: encode(weight)[0])
            yield made.write_gguf(folder / f"{name} {kind}.gguf", name, coded, metadata)
    for name in ("qwen2", "qwen3, yarn", "llama, llama3 scaling, tied"):
        yield made.write_gguf(folder / f"{name}.gguf", name, metadata=metadata)


def compare(path, folder):
    import llama_cpp

    packed = path
    if path.suffix == ".onebit":
        path = folder / f"{path.stem}.gguf"
        export(packed, "gguf", path)
    else:
        packed = folder / "m.onebit"
        import_model(path, packed, wide="float32")
    tokens = np.random.default_rng(20).integers(0, 256, 40).tolist()
    theirs = llama_cpp.Llama(str(path), n_ctx=128, n_threads=1, logits_all=True, verbose=False)
    theirs.eval(tokens)
    wanted = np.array(theirs.scores[: len(tokens)])
    found = onebit.load(packed, precision="float32", threads=1).logits(tokens)
    rms = np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean())
    same = (found.argmax(1) == wanted.argmax(1)).mean()
    print(
        f"{path.name}: relative difference {rms:.1e} (root mean square), {same:.0%} of the most probable tokens equal"
    )


def main():
    with tempfile.TemporaryDirectory() as name:
        for path in map(Path, sys.argv[1:]) if sys.argv[1:] else random_files(Path(name)):
            compare(path, Path(name))


if __name__ == "__main__":
    main()
