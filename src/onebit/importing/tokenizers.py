"""The tokenizers of foreign files, as JSON of Hugging Face tokenizers with the tokens that begin and end texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onebit.errors import DataError, ForeignModelError, FormatError
from onebit.importing.folder import MAX_JSON_BYTES, Folder, read_json
from onebit.importing.gguf import GGUF
from onebit.importing.pre_splits import BEGINNING, COMPOSED, PRE_SPLITS, WHOLE_WORDS
from onebit.importing.sentencepiece import (
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    read_sentencepiece,
    sentencepiece_parts,
)
from onebit.strict_json import excerpt
from onebit.subwords import SubwordTask, is_byte_level, pack_tokenizer, tokens_of, unpack_tokenizer
from onebit.task import MAX_VOCABULARY

MAX_TEMPLATE_CHARACTERS = 1 << 17
# Special tokens that end an answer in some format of chats, whatever else a file calls its end.
_ENDS = {
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<|return|>"),
    *("<end_of_turn>", "<end_of_utterance>", "<|eot|>", "<EOT>", "<|end_of_sentence|>"),
}


def gguf_task(file: GGUF, vocabulary: int) -> tuple[SubwordTask, tuple[str, ...]]:
    """The task of a GGUF file's model.

    Args:
        file: the file.
        vocabulary: the number of rows of its embedding.

    Returns:
        The task, and what was assumed, in words.

    Raises:
        ForeignModelError: the tokenizer is missing, of a kind that is not known, or incomplete.
    """
    found = _Metadata(file)
    tokens = found.tokens(vocabulary)
    kind = found.value("model")
    if kind == "gpt2":
        tree, notes = _byte_level(found, tokens)
    elif kind == "llama":
        tree, notes = _sentencepiece(found, tokens), ()
    else:
        known = "gpt2 (byte-level BPE) and llama (sentencepiece)"
        raise found.fail(f"tokenizer.ggml.model={excerpt(kind)}: onebit reads {known}")
    special = {token["content"]: token["id"] for token in tree["added_tokens"] if token["special"]}
    end = found.token("eos_token_id")
    ends = {i for i in (end, found.token("eot_token_id"), found.token("eom_token_id")) if i is not None}
    begin = found.token("bos_token_id")
    begins = found.flag("add_bos_token", kind == "llama" or found.value("pre") in BEGINNING)
    starts = (begin,) if begin is not None and begins else ()
    template = file.metadata.get("tokenizer.chat_template")
    return _task(str(file.path), tree, special, starts, ends, begin, template), notes


class _Metadata:
    """The keys of a tokenizer, each checked when it is read."""

    def __init__(self, file: GGUF) -> None:
        self.values, self.path = file.metadata, file.path

    def fail(self, message: str) -> ForeignModelError:
        return ForeignModelError(f"[{self.path}] {message}")

    def value(self, name: str) -> Any:
        return self.values.get(f"tokenizer.ggml.{name}")

    def flag(self, name: str, default: bool) -> bool:
        value = self.value(name)
        if value is not None and type(value) is not bool:
            raise self.fail(f"tokenizer.ggml.{name}={excerpt(value)}: needs true or false")
        return default if value is None else value

    def texts(self, name: str) -> list[str]:
        value = self.value(name)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.fail(
                f"tokenizer.ggml.{name} is missing or not a list of texts: the file lacks a whole tokenizer"
            )
        return value

    def numbers(self, name: str, count: int, default: float) -> list[float]:
        """A list of numbers, one for each token."""
        value = self.value(name)
        if value is None:
            return [default] * count
        if not hasattr(value, "dtype") or len(value) != count:
            raise self.fail(f"tokenizer.ggml.{name} needs a number for each of {count} tokens: the file is damaged")
        numbers: list[float] = value.tolist()
        return numbers

    def tokens(self, vocabulary: int) -> list[str]:
        tokens = self.texts("tokens")
        if len(tokens) > min(vocabulary, MAX_VOCABULARY):
            raise self.fail(f"the tokenizer has {len(tokens)} tokens, the network {vocabulary}: the file is damaged")
        if len(set(tokens)) != len(tokens):
            # Some files fill unused places with one name.
            seen: set[str] = set()
            tokens = [t if t not in seen and not seen.add(t) else f"<|unused {i}|>" for i, t in enumerate(tokens)]  # type: ignore[func-returns-value]
        return tokens

    def token(self, name: str) -> int | None:
        value = self.value(name)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < len(self.texts("tokens")):
            raise self.fail(f"tokenizer.ggml.{name}={excerpt(value)}: needs the number of a token")
        return value


def _byte_level(found: _Metadata, tokens: list[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    pre = found.value("pre")
    notes: tuple[str, ...] = ()
    if pre is None and len(tokens) == 128256:
        pre, notes = (
            "llama-bpe",
            ("the file does not name its pre-split: Llama 3's is assumed, for its 128,256 tokens",),
        )
    if pre == "falcon_e":
        notes = ("the pre-split falcon_e is taken for Llama 3's",)
    if pre not in PRE_SPLITS:
        raise found.fail(f"tokenizer.ggml.pre={excerpt(pre)}: onebit knows {', '.join(PRE_SPLITS)}")
    merges = found.value("merges")
    if not isinstance(merges, list) or not merges:
        raise found.fail("tokenizer.ggml.merges is missing: byte-level BPE cannot cut a text without its merges")
    ids = {token: i for i, token in enumerate(tokens)}
    pairs = [merge.split(" ") for merge in merges if isinstance(merge, str)]
    wrong = next((p for p in pairs if len(p) != 2 or not {*p, "".join(p)} <= ids.keys()), None)
    if len(pairs) != len(merges) or wrong is not None:
        raise found.fail(
            f"tokenizer.ggml.merges holds {excerpt(' '.join(wrong or ()))}: needs two tokens that make a third"
        )
    model = {"type": "BPE", "ignore_merges": pre in WHOLE_WORDS, "vocab": ids, "merges": pairs}
    words = {"type": "Sequence", "pretokenizers": PRE_SPLITS[pre]}
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    normalizer = {"type": "NFC"} if pre in COMPOSED else None
    types = found.numbers("token_type", len(tokens), 1)
    return _tree(model, _added(types, tokens), normalizer, words, decoder), notes


def _sentencepiece(found: _Metadata, tokens: list[str]) -> dict[str, Any]:
    types = found.numbers("token_type", len(tokens), 1)
    unknown = next((i for i, kind in enumerate(types) if kind == UNKNOWN), found.token("unknown_token_id"))
    scores, prefix = found.numbers("scores", len(tokens), 0.0), found.flag("add_space_prefix", True)
    model, normalizer, decoder = sentencepiece_parts(Vocabulary(tokens, scores, types, prefix, unknown))
    return _tree(model, _added(types, tokens), normalizer, None, decoder)


def _added(types: list[float], tokens: list[str]) -> list[dict[str, Any]]:
    kinds = {UNKNOWN: True, CONTROL: True, USER_DEFINED: False}
    return [_added_token(i, tokens[i], kinds[int(kind)]) for i, kind in enumerate(types) if kind in kinds and tokens[i]]


def _added_token(index: int, content: str, special: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, **plain, "special": special}


def _tree(
    model: dict[str, Any], added: list[dict[str, Any]], normalizer: Any, words: Any, decoder: Any
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": words,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def folder_task(folder: Folder) -> SubwordTask:
    """The task of a folder's model.

    Raises:
        ForeignModelError: tokenizer.json and tokenizer.model are missing, or not a BPE that onebit knows.
    """
    config_path = folder.path / "tokenizer_config.json"
    config = read_json(config_path, "it names special tokens") if config_path.exists() else {}
    if (folder.path / "tokenizer.json").exists() or not (folder.path / "tokenizer.model").exists():
        tree, begins = _fast_tree(folder.path / "tokenizer.json"), False
    else:
        tree, begins = _slow_tree(folder.path, config), config.get("add_bos_token", True) is True
    ids = {token: i for i, token in enumerate(tokens_of(tree))}
    special = {t["content"]: t["id"] for t in tree.get("added_tokens") or () if t.get("special")}
    begin = ids.get(_content(config.get("bos_token")) or "")
    ends = {i for i in (ids.get(_content(config.get("eos_token")) or ""),) if i is not None} | set(
        _generation_ends(folder)
    )
    if begin is None and folder.config.get("bos_token_id") in ids.values():
        begin = folder.config["bos_token_id"]
    starts = (begin,) if begin is not None and (begins or _begins_with(tree, begin)) else ()
    return _task(
        str(folder.path), tree | {"post_processor": None}, special, starts, ends, begin, _template(folder, config)
    )


def _fast_tree(path: Path) -> dict[str, Any]:
    """tokenizer.json, of Hugging Face's fast tokenizers."""
    if not path.exists():
        raise ForeignModelError(
            f"[{path}] is missing: save the tokenizer with Hugging Face's fast tokenizers, which write it"
        )
    tree = read_json(path, "it is the file of Hugging Face tokenizers")
    try:
        return unpack_tokenizer(json.dumps(tree))
    except FormatError as error:
        raise ForeignModelError(f"[{path}] {error}") from None


def _slow_tree(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.model, of sentencepiece, with the tokens that tokenizer_config.json adds."""
    vocabulary = read_sentencepiece(path / "tokenizer.model")
    model, normalizer, decoder = sentencepiece_parts(vocabulary)
    added = {token["id"]: token for token in _added(vocabulary.types, vocabulary.tokens)}
    more = config.get("added_tokens_decoder")
    for key, token in more.items() if isinstance(more, dict) else ():
        content = _content(token)
        if not key.isdecimal() or len(key) > 9 or not content:
            where, seen = path / "tokenizer_config.json", f"{excerpt(token)} as {excerpt(key)}"
            raise ForeignModelError(f"[{where}] added_tokens_decoder names {seen}: needs numbers of tokens with texts")
        added[int(key)] = _added_token(int(key), content, token.get("special") is True)
    missing = next((i for i in sorted(added) if i > len(vocabulary.tokens) + len(added)), None)
    if missing is not None:
        raise ForeignModelError(f"[{path / 'tokenizer_config.json'}] adds the token {missing}, and not those before it")
    return _tree(model, [added[i] for i in sorted(added)], normalizer, None, decoder)


def _content(token: Any) -> str | None:
    """A token of tokenizer_config.json: a text, or an object with it."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _generation_ends(folder: Folder) -> Iterable[int]:
    path = folder.path / "generation_config.json"
    values = read_json(path, "it names the end of texts") if path.exists() else folder.config
    ends = values.get("eos_token_id", folder.config.get("eos_token_id"))
    return [i for i in (ends if isinstance(ends, list) else [ends]) if type(i) is int and i >= 0]


def _begins_with(tree: Mapping[str, Any], begin: int) -> bool:
    """Whether the tokenizer puts a token before every text."""
    text = json.dumps(tree.get("post_processor") or {})
    if '"TemplateProcessing"' not in text:
        return False
    name = next((t["content"] for t in tree.get("added_tokens") or () if t["id"] == begin), None)
    return name is not None and f'"single": [{{"SpecialToken": {{"id": {json.dumps(name)}' in text


def _template(folder: Folder, config: Mapping[str, Any]) -> Any:
    path = folder.path / "chat_template.jinja"
    if path.exists() and path.stat().st_size <= MAX_JSON_BYTES:
        return path.read_text("utf-8", "replace")
    found = config.get("chat_template")
    if isinstance(found, list):  # several, with names
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        return named.get("default")
    return found


def _task(
    where: str,
    tree: dict[str, Any],
    special: Mapping[str, int],
    starts: tuple[int, ...],
    ends: set[int],
    begin: int | None,
    template: Any,
) -> SubwordTask:
    if not tree.get("decoder") and not is_byte_level(tree):
        raise ForeignModelError(f"[{where}] the tokenizer has no decoder: onebit cannot make texts of its tokens")
    ends = ends | {special[name] for name in _ENDS & special.keys()}
    if not ends:
        raise ForeignModelError(f"[{where}] the tokenizer names no token that ends a text: the file is incomplete")
    outside = next((i for i in sorted(ends) if i >= len(tokens_of(tree))), None)
    if outside is not None:
        raise ForeignModelError(
            f"[{where}] texts end with the token {outside}, which the tokenizer does not have: the files do not belong together"
        )
    if template is not None and (not isinstance(template, str) or len(template) > MAX_TEMPLATE_CHARACTERS):
        raise ForeignModelError(
            f"[{where}] the chat template is not a text of at most {MAX_TEMPLATE_CHARACTERS} characters"
        )
    separator = begin if begin is not None else min(ends)
    try:
        return SubwordTask(pack_tokenizer(tree), starts, tuple(sorted(ends)), separator, template or None)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise ForeignModelError(f"[{where}] the tokenizer cannot be kept: {error}") from None
