"""Tokenizers of sentencepiece, as JSON of Hugging Face tokenizers, and its own file, tokenizer.model.

The file is a message of protocol buffers. Of its fields onebit reads the pieces, each with a text, a score and a kind, and how texts are prepared.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit.errors import ForeignModelError
from onebit.importing.stored import SourceFile
from onebit.strict_json import excerpt
from onebit.task import MAX_VOCABULARY

# Kinds of tokens, in sentencepiece as in GGUF.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
_BPE = 2
_MODELS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
_MAX_FILE_BYTES = 1 << 26
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_SPACE = "\u2581"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a sentencepiece tokenizer.

    Args:
        tokens: their texts, all different, with U+2581 for a space.
        scores, types: a number for each token.
        prefix: whether a space stands before each text.
        unknown: the token of what no other covers.
    """

    tokens: list[str]
    scores: list[float]
    types: list[float]
    prefix: bool
    unknown: int | None


def sentencepiece_parts(vocabulary: Vocabulary) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The model, the normalizer and the decoder of Hugging Face tokenizers for a vocabulary of the kind BPE."""
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    model = {
        "type": "BPE",
        "unk_token": None if vocabulary.unknown is None else vocabulary.tokens[vocabulary.unknown],
        "fuse_unk": True,
        "byte_fallback": BYTE in vocabulary.types,
        "vocab": ids,
        "merges": _merges(ids, vocabulary.scores),
    }
    spaces: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if vocabulary.prefix else []
    back = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    decoders: list[dict[str, Any]] = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return (
        model,
        {"type": "Sequence", "normalizers": [*prepend, spaces]},
        {"type": "Sequence", "decoders": decoders},
    )


def _merges(ids: Mapping[str, int], scores: list[float]) -> list[list[str]]:
    """The merges of a sentencepiece vocabulary: every way of making a token of two, the best scores first."""
    found: list[tuple[float, int, int, str, str]] = []
    for token, index in ids.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                found.append((-scores[index], len(left), len(right), left, right))
    found.sort(key=lambda merge: merge[:3])  # stable: in the order of tokens
    return [[left, right] for *_, left, right in found]


def read_sentencepiece(path: Path) -> Vocabulary:
    """Read tokenizer.model.

    Raises:
        ForeignModelError: it cannot be read, is damaged, or is of a kind that onebit does not have.
    """
    file = SourceFile(path)
    try:
        if not 0 < file.size <= _MAX_FILE_BYTES:
            raise file.fail(f"has {file.size} bytes: needs 1 to {_MAX_FILE_BYTES}; copy it again")
        return _read(file, file.read(0, file.size))
    except (ValueError, struct.error) as error:
        if isinstance(error, ForeignModelError):
            raise
        raise file.fail(f"is damaged or not of sentencepiece: {error}; copy it again") from None
    finally:
        file.close()


def _read(file: SourceFile, content: bytes) -> Vocabulary:
    tokens: list[str] = []
    scores: list[float] = []
    types: list[float] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(_message(value)))
            tokens.append(_message(piece.get(1, b"")).decode())
            score = struct.unpack("<f", _message(piece.get(2, bytes(4))))[0]
            if not abs(score) < float("inf"):
                raise ValueError(f"the score of {excerpt(tokens[-1])} is {score}")
            scores.append(score)
            types.append(_whole(piece.get(3, NORMAL)))
            if len(tokens) > MAX_VOCABULARY:
                raise ValueError(f"it has more than {MAX_VOCABULARY} pieces")
        elif number == 2:
            trainer = dict(_fields(_message(value)))
        elif number == 3:
            normalizer = dict(_fields(_message(value)))
    kind = _whole(trainer.get(3, 1))
    if tokens and kind != _BPE:
        raise file.fail(f"is of the kind {_MODELS.get(kind, kind)}: onebit reads BPE")
    if len(set(tokens)) != len(tokens) or not tokens or "" in tokens:
        raise ValueError("pieces are missing, empty or stand twice")
    if normalizer.get(2) or _whole(normalizer.get(4, 1)):
        raise file.fail("changes characters or spaces before it cuts texts: onebit reads files that keep them")
    unknown = next((i for i, kind in enumerate(types) if kind == UNKNOWN), None)
    return Vocabulary(tokens, scores, types, bool(_whole(normalizer.get(3, 1))), unknown)


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: their numbers, with whole numbers or bytes."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == _BYTES:
            count, place = _varint(content, place)
        elif kind in (_EIGHT, _FOUR):
            count = 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind} at byte {place}")
        if count > len(content) - place:
            raise ValueError(f"a field of {count} bytes at byte {place} of {len(content)}")
        yield number, content[place : place + count]
        place += count


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        if place + index >= len(content):
            raise ValueError(f"it ends within a number at byte {place}")
        byte = content[place + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, place + index + 1
    raise ValueError(f"a number of more than 10 bytes at byte {place}")


def _message(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a text or a message belongs")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("a text where a number belongs")
    return value
