"""Compare the logits of GGUF files in llama.cpp and in onebit, on the same tokens, with what llama.cpp's own rounding changes.

    python tests/importing/compare_llama_cpp.py

needs `llama-cpp-python`. llama.cpp rounds the inputs of quantised matrices to int8; onebit computes in float32 here. So each random model is
written twice: with blocks of a type, and with the same weights as float32, which llama.cpp multiplies by inputs that are not rounded (its cache in
float32 too). Each column is the root mean square of the difference of all logits over that of the logits.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import random_models as made
from gguf_files import floats

import onebit
from onebit.importing import import_model
from onebit.importing.source_logits import LlamaCpp
from onebit.tables import lay_out

CODED = {
    "Q1_0": made.as_q1_0,
    "Q2_0": made.as_q2_0,
    "TQ1_0": made.as_tq1_0,
    "TQ2_0": made.as_tq2_0,
    "Q8_0": made.as_q8_0,
}
ROOM = 128


def metadata():
    """llama.cpp needs as many tokens as rows of the embedding."""
    tokens = list(made.tokenizer()["model"]["vocab"])
    tokens += [f"<|unused {i}|>" for i in range(len(tokens), made.VOCABULARY)]
    types = [(5, 3 if token == "<|end|>" else 1) for token in tokens]
    return {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}


def random_files(folder):
    """The name of each model, its file, and the file of the same weights in float32."""
    for name in ("wide qwen3", "wide llama"):
        for kind, encode in CODED.items():
            coded = made.write_gguf(folder / f"{kind}.gguf", name, lambda w, encode=encode: encode(w)[0], metadata())
            wide = made.write_gguf(
                folder / f"{kind}-float32.gguf",
                name,
                lambda w, encode=encode: floats(encode(w)[1].reshape(w.shape)),
                metadata(),
            )
            yield f"{name.removeprefix('wide ')}, {kind}", coded, wide
    for name in ("qwen2", "qwen3, yarn", "llama, llama3 scaling, tied"):
        file = made.write_gguf(folder / "float32.gguf", name, metadata=metadata())
        yield f"{name}, F32", file, file


def rows(folder):
    tokens = np.random.default_rng(20).integers(0, 256, 40).tolist()
    for name, coded, wide in random_files(folder):
        theirs = LlamaCpp(coded, ROOM).logits(tokens)
        exact = LlamaCpp(wide, ROOM, type_k=0, type_v=0).logits(tokens)
        import_model(coded, folder / "m.onebit", wide="float32")
        ours = onebit.load(folder / "m.onebit", precision="float32", threads=1).logits(tokens)
        size = np.sqrt(np.square(exact).mean())
        pairs = ((ours, exact), (ours, theirs), (theirs, exact))
        yield [name, *(f"{np.sqrt(np.square(a - b).mean()) / size:.1e}" for a, b in pairs)]


def main():
    heading = ["model", "onebit and llama.cpp, float32", "onebit and llama.cpp", "llama.cpp's rounding"]
    with tempfile.TemporaryDirectory() as folder:
        print(lay_out([heading, *rows(Path(folder))], right=(1, 2, 3)))


if __name__ == "__main__":
    main()
