"""Write known_tokens.json: llama.cpp's reference strings with their tokens, and of each vocabulary the part that these strings can need.

    python tests/importing/make_known_tokens.py LLAMA_CPP/models

reads `ggml-vocab-*.gguf` with their `.inp` and `.out` files, and first checks the whole vocabularies. A merge is kept if what it makes stands in one
of the strings: others can never apply. Tokens are numbered anew.
"""

import json
import sys
from pathlib import Path

from onebit.importing.gguf import read_gguf
from onebit.importing.tokenizers import gguf_task
from onebit.subwords import SubwordTokenizer
from onebit.task import byte_alphabet

FAMILIES = ("gpt-2", "llama-bpe", "qwen2", "falcon", "starcoder", "qwen35", "llama-spm", "phi-3")
_SPACE = "\u2581"


def truths(path):
    """The strings of a vocabulary with their tokens."""
    texts = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text().split("\n")
    return [(text, [int(i) for i in line.split()]) for text, line in zip(texts, lines, strict=False)]


def spelled(text, byte_level):
    """A text in the characters of tokens."""
    if not byte_level:
        return _SPACE + text.replace(" ", _SPACE)
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in text.encode())


def reduced(path):
    file = read_gguf(path)
    tokenizer = SubwordTokenizer(gguf_task(file, 1 << 20)[0])
    known = truths(path)
    wrong = [text for text, ids in known if tokenizer.encode(text) != ids]
    print(path.name, len(known), "strings,", len(wrong), "wrong")
    assert not wrong
    keys = {
        key.removeprefix("tokenizer.ggml."): v for key, v in file.metadata.items() if key.startswith("tokenizer.ggml")
    }
    tokens, types, byte_level = keys["tokens"], keys["token_type"].tolist(), keys["model"] == "gpt2"
    texts = "\n".join(spelled(text, byte_level) for text, _ in known)
    used = {i for _, ids in known for i in ids}
    kept = [
        i
        for i, t in enumerate(tokens)
        if (t in texts and "\n" not in t) or len(t) == 1 or types[i] not in (1, 5) or i in used
    ]
    kept = [i for i in kept if types[i] in (1, 2, 6) or i in used or i < 3]
    place = {i: n for n, i in enumerate(kept)}
    names = {tokens[i] for i in kept}
    result = {"model": keys["model"], "pre": keys["pre"], "tokens": [tokens[i] for i in kept]}
    result["types"] = [types[i] for i in kept]
    if byte_level:
        pairs = [merge.split(" ") for merge in keys["merges"]]
        result["merges"] = [" ".join(p) for p in pairs if {*p, "".join(p)} <= names]
    else:
        result["scores"] = [float(keys["scores"][i]) for i in kept]
    result["ids"] = [[place[i] for i in ids] for _, ids in known]
    result["texts"] = [text for text, _ in known]
    return result


def main():
    found = {name: reduced(Path(sys.argv[1]) / f"ggml-vocab-{name}.gguf") for name in FAMILIES}
    shared = found["gpt-2"]["texts"]
    for values in found.values():
        if values["texts"] == shared:
            del values["texts"]
    lines = [f'"texts": {json.dumps(shared)}'] + [f'"{name}": {json.dumps(values)}' for name, values in found.items()]
    Path(__file__).with_name("known_tokens.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
