"""The tokenizer of a task as metadata of GGUF. `onebit.importing.tokenizers` reads it."""

from __future__ import annotations

import json
from typing import Any

from onebit.errors import OnebitError
from onebit.importing.pre_splits import COMPOSED, PRE_SPLITS, WHOLE_WORDS
from onebit.subwords import SubwordTask, is_byte_level, tokens_of, unpack_tokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6


def tokenizer_metadata(task: SubwordTask, vocabulary: int) -> dict[str, Any]:
    """Keys and values; lists of integers are of 32 bits.

    Args:
        task: the tokenizer, its special tokens and the template.
        vocabulary: the rows of the embedding. llama.cpp needs a token for each.

    Raises:
        OnebitError: the tokenizer's way of cutting texts has no name in GGUF.
    """
    tree = unpack_tokenizer(task.tokenizer)
    tokens = tokens_of(tree)
    types = [_NORMAL if token else _UNUSED for token in tokens]
    for token in tree.get("added_tokens") or ():
        types[token["id"]] = _CONTROL if token.get("special") else _USER_DEFINED
    tokens = [token or f"<|unused {i}|>" for i, token in enumerate(tokens)]
    tokens += [f"<|unused {i}|>" for i in range(len(tokens), vocabulary)]
    types += [_UNUSED] * (vocabulary - len(types))
    found: dict[str, Any] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    if is_byte_level(tree):
        found |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": _pre_split(tree)}
        found["tokenizer.ggml.merges"] = [" ".join(pair) for pair in tree["model"]["merges"]]
    else:
        found |= _sentencepiece(tree, tokens, types)
    return found | _special(task, tokens)


def _special(task: SubwordTask, tokens: list[str]) -> dict[str, Any]:
    """The tokens that begin and end texts. Of several ends the template's is named; llama.cpp knows the others by their names."""
    template = task.chat_template or ""
    end = next((i for i in task.ends if tokens[i] in template), task.ends[0])
    found: dict[str, Any] = {
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.bos_token_id": task.starts[0] if task.starts else task.separator,
        "tokenizer.ggml.add_bos_token": bool(task.starts),
    }
    return found | ({"tokenizer.chat_template": template} if template else {})


def _pre_split(tree: dict[str, Any]) -> str:
    """The name of the way in which words are cut."""
    own, whole = _plain(tree.get("pre_tokenizer")), bool(tree["model"].get("ignore_merges"))
    composed = (tree.get("normalizer") or {}).get("type") == "NFC"
    for name, parts in PRE_SPLITS.items():
        if (
            _plain({"pretokenizers": parts}) == own
            and (name in WHOLE_WORDS) == whole
            and (name in COMPOSED) == composed
        ):
            return name
    for name, parts in PRE_SPLITS.items():  # a composed form, and words that are tokens whole, hardly change anything
        if _plain({"pretokenizers": parts}) == own:
            return name
    raise OnebitError("[export] the tokenizer cuts texts in a way that has no name in GGUF: export safetensors instead")


def _plain(words: Any) -> list[str]:
    """The steps that cut words, without options that change no cut."""
    steps = words.get("pretokenizers", [words]) if isinstance(words, dict) else []
    kept = ("type", "pattern", "behavior", "invert", "individual_digits", "use_regex")
    return [json.dumps({k: v for k, v in step.items() if k in kept}, sort_keys=True) for step in steps]


def _sentencepiece(tree: dict[str, Any], tokens: list[str], types: list[int]) -> dict[str, Any]:
    """Scores in the order of the merges: what is merged first has the best."""
    model = tree["model"]
    ids = {token: i for i, token in enumerate(tokens)}
    scores = [0.0] * len(tokens)
    ranks: dict[int, int] = {}
    for left, right in model["merges"]:
        ranks.setdefault(ids[left + right], len(ranks))
    for index, rank in ranks.items():
        scores[index] = -float(rank)
    unknown = model.get("unk_token")
    if unknown in ids:
        types[ids[unknown]] = _UNKNOWN
    for i, token in enumerate(tokens):
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[i] = _BYTE
    prepends = '"Prepend"' in json.dumps([tree.get("normalizer"), tree.get("pre_tokenizer")])
    metaspace = tree.get("pre_tokenizer") or {}
    prepends = prepends or (metaspace.get("type") == "Metaspace" and metaspace.get("prepend_scheme") != "never")
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": prepends,
        **({} if unknown not in ids else {"tokenizer.ggml.unknown_token_id": ids[unknown]}),
    }
