"""Tokenizers of imported language models: byte-level BPE and sentencepiece's, kept whole in a file's task and run by Hugging Face tokenizers."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, FormatError, shown
from onebit.strict_json import excerpt
from onebit.task import byte_alphabet, check_task
from onebit.text import TextTask, Tokenizer, valid_text

KIND = "language-model"
_SPACE = "\u2581"  # sentencepiece's
_BYTE = re.compile("<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class SubwordTask:
    """The task of an imported language model.

    Args:
        tokenizer: of Hugging Face tokenizers, as JSON; see `pack_tokenizer`.
        starts: the tokens that begin every text, such as the one that the model calls the begin of a sequence; often none.
        ends: the tokens that end a text.
        separator: the token before the first of a text that is scored, and of an empty prompt.
        chat_template: how messages become a text, in Jinja; None if the model is not made for chats.

    Raises:
        DataError: a field is wrong.
    """

    tokenizer: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    separator: int
    chat_template: str | None = None

    def __post_init__(self) -> None:
        try:
            check_task(self.to_json())
        except FormatError as error:
            raise DataError(str(error)) from None

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values, with its kind."""
        given: dict[str, Any] = {
            "kind": KIND,
            "tokenizer": self.tokenizer,
            "starts": list(self.starts),
            "ends": list(self.ends),
            "separator": self.separator,
        }
        return given if self.chat_template is None else given | {"chat_template": self.chat_template}

    @classmethod
    def from_json(cls, values: Any) -> SubwordTask:
        """The task from the values of `to_json`. Raises FormatError if they do not describe one."""
        check_task(values)
        if values["kind"] != KIND:
            raise FormatError(f"[task] kind {excerpt(values['kind'])}: only {KIND!r} is known here")
        starts, ends = tuple(values["starts"]), tuple(values["ends"])
        return cls(values["tokenizer"], starts, ends, values["separator"], values.get("chat_template"))

    @property
    def tree(self) -> dict[str, Any]:
        """The JSON of the tokenizer, with what `pack_tokenizer` packed as it is, read anew. Raises FormatError if it is not one."""
        return _read_tokenizer(self.tokenizer)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens, by their numbers."""
        return tuple(tokens_of(self.tree))

    @property
    def description(self) -> str:
        """The tokenizer in a few words, to print with figures."""
        kind = "byte-level BPE" if is_byte_level(self.tree) else "sentencepiece-type BPE"
        return f"{kind}, {len(self.vocabulary):,} tokens"


def pack_tokenizer(tree: Mapping[str, Any]) -> str:
    """The JSON of a tokenizer with its tokens and merges as texts, a line each, which takes a fifth of the lists' size.

    Args:
        tree: the JSON of Hugging Face tokenizers. Tokens with line ends in them, or numbers that leave gaps, stay in lists.
    """
    model = dict(tree["model"])
    ids: Mapping[str, int] = model["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    if all(ids[token] == i and "\n" not in token for i, token in enumerate(tokens)):
        model["vocab"] = "\n".join(tokens)
    pairs = [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in model["merges"]]
    if all(len(pair) == 2 and not re.search("[ \n]", pair[0] + pair[1]) for pair in pairs):
        model["merges"] = "\n".join(" ".join(pair) for pair in pairs)
    else:
        model["merges"] = pairs
    return json.dumps(dict(tree) | {"model": model}, ensure_ascii=False, separators=(",", ":"))


def unpack_tokenizer(text: str) -> dict[str, Any]:
    """The JSON that `pack_tokenizer` packed. Raises FormatError if it is something else."""
    tree = _read_tokenizer(text)
    model = tree["model"]
    if isinstance(model["vocab"], str):
        model["vocab"] = {token: i for i, token in enumerate(model["vocab"].split("\n"))}
    if isinstance(model["merges"], str):
        model["merges"] = [line.split(" ") for line in model["merges"].split("\n")] if model["merges"] else []
    return tree


def _read_tokenizer(text: str) -> dict[str, Any]:
    """The checked JSON of a tokenizer. Its vocabulary and merges stay texts: dictionaries of large vocabularies take tens of megabytes."""
    try:
        tree: dict[str, Any] = json.loads(text)
        model = tree["model"]
        if model["type"] != "BPE":
            raise FormatError(f"[task] a tokenizer of the type {excerpt(model['type'])}: only BPE is known")
        vocabulary = model["vocab"]
        if not isinstance(vocabulary, str) and not all(
            isinstance(token, str) and type(i) is int and 0 <= i < 1 << 24 for token, i in vocabulary.items()
        ):
            raise FormatError("[task] the tokenizer's vocabulary is not of texts and numbers; the file is damaged")
        added = [(token["id"], token["content"]) for token in tree.get("added_tokens") or ()]
        if not all(type(i) is int and 0 <= i < 1 << 24 and isinstance(token, str) for i, token in added):
            raise FormatError("[task] the tokenizer's added tokens are not of texts and numbers; the file is damaged")
        model["merges"]  # there must be some, or an empty list
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("[task] the tokenizer is not JSON of Hugging Face tokenizers; the file is damaged") from None
    return tree


def tokens_of(tree: Mapping[str, Any]) -> list[str]:
    """The tokens by their numbers; numbers without one have the empty text."""
    vocabulary = tree["model"]["vocab"]
    added = {token["content"]: token["id"] for token in tree.get("added_tokens") or ()}
    if isinstance(vocabulary, str):
        tokens = vocabulary.split("\n")
        if all(i < len(tokens) and tokens[i] == token for token, i in added.items()):
            return tokens
        vocabulary = {token: i for i, token in enumerate(tokens)}
    ids = vocabulary | added
    tokens = [""] * (max(ids.values(), default=-1) + 1)
    for token, index in ids.items():
        tokens[index] = token
    return tokens


def is_byte_level(tree: Mapping[str, Any]) -> bool:
    """Whether tokens are written in the 256 characters that stand for bytes."""
    decoder = tree.get("decoder") or {}
    return decoder.get("type") == "ByteLevel" or any(d.get("type") == "ByteLevel" for d in decoder.get("decoders", ()))


class _Lines:
    """Texts by their numbers, in one piece of UTF-8: a hundred thousand texts of their own take ten megabytes."""

    def __init__(self, texts: Sequence[str]) -> None:
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._content = b"".join(parts)
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        begin = int(self._ends[index - 1]) if index else 0
        return self._content[begin : self._ends[index]].decode("utf-8", "surrogatepass")


class SubwordTokenizer:
    """Converts text to token ids and back.

    Args:
        task: the tokenizer and its special tokens.

    Names of special tokens in a text, such as ``<|im_start|>``, become those tokens.
    """

    def __init__(self, task: SubwordTask) -> None:
        self.task = task
        tree = task.tree
        self._tokens = _Lines(tokens_of(tree))
        self.size = len(self._tokens)
        self.starts, self.ends, self.separator = task.starts, frozenset(task.ends), task.separator
        self.never: tuple[int, ...] = ()
        self.unknown = -1  # every text has tokens
        outside = [i for i in (*task.starts, *task.ends, task.separator) if i >= self.size]
        if outside:
            raise FormatError(f"[task] names the token {outside[0]} of {self.size}; the file is damaged")
        self._byte_level = is_byte_level(tree)
        self._added = {token["id"] for token in tree.get("added_tokens") or ()}

    @cached_property
    def _bytes_of(self) -> dict[str, int]:
        return {character: byte for byte, character in enumerate(byte_alphabet())}

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise DataError(
                '[tokenizer] this model\'s texts are cut by Hugging Face tokenizers: pip install "onebit[chat]"'
            ) from None
        try:
            return Tokenizer.from_str(json.dumps(unpack_tokenizer(self.task.tokenizer)))
        except Exception as error:  # tokenizers raises nothing more special
            raise FormatError(f"[task] Hugging Face tokenizers refuses the tokenizer: {excerpt(str(error))}") from None

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without tokens added at its ends. Invalid parts are replaced; see `onebit.text.valid_text`."""
        text = valid_text(text)[0]
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids if text else []
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` each text."""
        return [self.encode(text) for text in texts]

    def arrays(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """As `encode_many`, with an int32 array (ids,) per text."""
        return [np.asarray(self.encode(text), np.int32) for text in texts]

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to a text, in UTF-8. It may end inside a character."""
        if token >= self.size:  # some models have more outputs than tokens
            return b""
        text = self._tokens[token]
        if token in self._added:
            return text.encode()
        if self._byte_level:
            # A character outside the alphabet stands for itself.
            return b"".join(bytes([self._bytes_of[c]]) if c in self._bytes_of else c.encode() for c in text)
        byte = _BYTE.fullmatch(text)
        return bytes([int(byte[1], 16)]) if byte else text.replace(_SPACE, " ").encode()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Raises DataError if one is out of range or not an integer."""
        for index in ids:
            if not isinstance(index, (int, np.integer)) or not 0 <= index < self.size:
                raise DataError(f"[tokenizer] token {shown(index)} is out of range: use 0 to {self.size - 1}")
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        return text if self._byte_level else text.removeprefix(" ")

    def stream(self, ids: Iterable[int], prompt: Sequence[int] = ()) -> Iterator[tuple[int, str]]:
        """Yield each id with the piece of text that it completes, or "" if it ends inside a character.

        Args:
            ids: the ids, one after the other.
            prompt: the ids before them, which are not yielded.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(b"".join(map(self.token_bytes, prompt)))
        first = not prompt and not self._byte_level
        for index in ids:
            piece = decoder.decode(self.token_bytes(index))
            yield index, piece.removeprefix(" ") if first else piece
            first = False


AnyTextTask = TextTask | SubwordTask
AnyTokenizer = Tokenizer | SubwordTokenizer


def text_task(values: Any) -> AnyTextTask:
    """The task of a language model of either kind. Raises FormatError if the values do not describe one."""
    if isinstance(values, dict) and values.get("kind") == KIND:
        return SubwordTask.from_json(values)
    return TextTask.from_json(values)


def tokenizer_for(task: AnyTextTask) -> AnyTokenizer:
    """The tokenizer of a task of either kind."""
    return SubwordTokenizer(task) if isinstance(task, SubwordTask) else Tokenizer(task)
