"""How byte-level BPE cuts a text into words, by the names that GGUF files give. The expressions are those of the models' own tokenizers."""

from __future__ import annotations

from typing import Any

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN35 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def _bytes(words: bool) -> dict[str, Any]:
    """To characters that stand for bytes, after GPT-2's expression if `words`."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words}


# These take a word that is a token whole, without looking at merges, and begin texts unless a file says otherwise.
_OF_LLAMA3 = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon_e")

_BY_NAMES: list[tuple[tuple[str, ...], list[dict[str, Any]]]] = [
    (("gpt-2", "gpt2", "mpt", "olmo", "jais"), [_bytes(True)]),
    (
        ("smollm", "starcoder", "refact", "command-r", "codeshell"),
        [{"type": "Digits", "individual_digits": True}, _bytes(True)],
    ),
    (_OF_LLAMA3, [_split(_LLAMA3), _bytes(False)]),
    (("qwen2", "stablelm2", "deepseek-r1-qwen"), [_split(_QWEN2), _bytes(False)]),
    (("qwen35",), [_split(_QWEN35), _bytes(False)]),
    (
        ("falcon",),
        [
            {"type": "Punctuation", "behavior": "Contiguous"},
            _bytes(True),
            {"type": "Digits", "individual_digits": False},
            _split("[0-9][0-9][0-9]"),
        ],
    ),
]
PRE_SPLITS: dict[str, list[dict[str, Any]]] = {name: parts for names, parts in _BY_NAMES for name in names}
# Their tokenizers bring texts to Unicode's composed form first.
COMPOSED = ("qwen2", "deepseek-r1-qwen")
WHOLE_WORDS = BEGINNING = _OF_LLAMA3
