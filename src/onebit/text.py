"""Text to tokens and back, the same way when training and when deployed; and what a language model knows about its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from onebit.errors import DataError, FormatError
from onebit.paths import expand

# BERT's names: padding, what the vocabulary cannot express, and what stands between two texts.
PAD, UNKNOWN, SEPARATOR = "[PAD]", "[UNK]", "[SEP]"
Alphabet = Literal["bytes", "words"]
# WordPiece looks for the longest piece first, which is quadratic in the length of a word: longer ones are cut or unknown.
_LONGEST_WORD = {"bytes": 1000, "words": 100}


@dataclass(frozen=True)
class TextTask:
    """What a language model knows about its text; it travels with a run and inside the packed file.

    Args:
        vocabulary: the WordPiece tokens, in the order of the logits, with [PAD], [UNK] and [SEP] among them.
        alphabet: ``"bytes"`` (a trained vocabulary: every text can be expressed and comes back as it was; a word begins with its space) or
            ``"words"`` (BERT's: words and punctuation, pieces inside a word begin with ##; spaces and unknown characters are lost).
        lowercase: whether the text is lowercased and stripped of accents first ("words" only).

    Raises:
        DataError: the vocabulary lacks a needed token, or names one twice.
    """

    vocabulary: tuple[str, ...]
    alphabet: Alphabet = "bytes"
    lowercase: bool = False

    def __post_init__(self) -> None:
        if self.alphabet not in ("bytes", "words"):
            raise DataError(f"[TextTask] alphabet={self.alphabet!r}: use 'bytes' or 'words'")
        known = set(self.vocabulary)
        for token in (UNKNOWN, PAD, SEPARATOR):
            if token not in known:
                raise DataError(f"[vocabulary] has no {token}: add a line {token} to it, or use another vocabulary")
        if len(known) != len(self.vocabulary):
            twice = next(token for i, token in enumerate(self.vocabulary) if token in self.vocabulary[:i])
            raise DataError(f"[vocabulary] names {twice!r} more than once: keep one of them")
        if self.alphabet == "bytes":
            lacking = set(pre_tokenizers.ByteLevel.alphabet()) - known
            if lacking:
                raise DataError(f"[vocabulary] lacks {len(lacking)} of the 256 bytes: use alphabet='words' with it")

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values, with its kind."""
        return {
            "kind": "text-generation",
            "alphabet": self.alphabet,
            "lowercase": self.lowercase,
            "vocabulary": "\n".join(self.vocabulary),  # one text: a list would cost three more bytes a token
        }

    @classmethod
    def from_json(cls, values: Any) -> TextTask:
        """The task from the values of `to_json`; raises FormatError where they do not describe one."""
        try:
            if values["kind"] != "text-generation":
                raise FormatError(f"[TextTask] kind {values['kind']!r}: only 'text-generation' is known")
            if not isinstance(values["vocabulary"], str) or not isinstance(values["lowercase"], bool):
                raise TypeError("vocabulary or lowercase of another type")
            return cls(tuple(values["vocabulary"].split("\n")), values["alphabet"], values["lowercase"])
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"[TextTask] the description of the task is damaged ({error})") from None

    @property
    def description(self) -> str:
        """The tokenizer in a few words, for beside a figure."""
        if self.alphabet == "bytes":
            return f"WordPiece over bytes, {len(self.vocabulary):,} tokens"
        return f"WordPiece of {'lowercased ' if self.lowercase else ''}words, {len(self.vocabulary):,} tokens"


class Tokenizer:
    """Text to token ids and back; a thin layer over Hugging Face tokenizers.

    Args:
        task: the vocabulary and how it is used.

    Example:
        >>> tokenizer = Tokenizer(task)
        >>> tokenizer.decode(tokenizer.encode("one bit"))
        'one bit'
    """

    def __init__(self, task: TextTask) -> None:
        self.task = task
        self.size = len(task.vocabulary)
        self.pad, self.unknown, self.separator = (task.vocabulary.index(token) for token in (PAD, UNKNOWN, SEPARATOR))

    @cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        # Made when a text is first met: it takes as long as all else in loading a model, and who works with ids does not need it.
        task = self.task
        ids = {token: index for index, token in enumerate(task.vocabulary)}
        prefix = "" if task.alphabet == "bytes" else "##"
        tokenizer = tokenizers.Tokenizer(
            models.WordPiece(
                ids,
                unk_token=UNKNOWN,
                continuing_subword_prefix=prefix,
                max_input_chars_per_word=_LONGEST_WORD[task.alphabet],
            )
        )
        # [SEP] and its like are not told to the tokenizer: in a text they are letters and brackets.
        if task.alphabet == "bytes":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
        else:
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=task.lowercase)
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """The ids of a text; no token is added at its ends."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, several at once."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; raises DataError where one is out of range."""
        for index in ids:
            if not 0 <= index < self.size:
                raise DataError(f"[tokenizer] token {index} is out of range: use 0 to {self.size - 1}")
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def stream(self, ids: Iterable[int], prompt: Sequence[int] = ()) -> Iterator[tuple[int, str]]:
        """Each id with the piece of text that it completes, "" where it ends inside a character.

        Args:
            ids: made one after the other.
            prompt: ids that stand before them and are not given again.
        """
        stream = decoders.DecodeStream(ids=list(prompt), skip_special_tokens=False)
        for index in ids:
            yield index, stream.step(self._tokenizer, index) or ""


def train_vocabulary(texts: Iterable[str], size: int) -> TextTask:
    """Train a WordPiece vocabulary over bytes.

    Args:
        texts: to train on.
        size: how many tokens, at least 259: the 256 bytes, [PAD], [UNK] and [SEP]. Little text gives fewer.

    Raises:
        DataError: `size` is too small.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = [PAD, UNKNOWN, SEPARATOR]
    least = len(alphabet) + len(specials)
    if size < least:
        raise DataError(f"[vocabulary] {size} tokens: use at least {least} (256 bytes, {', '.join(specials)})")
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN, continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=specials,
        initial_alphabet=alphabet,
        continuing_subword_prefix="",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = tokenizer.get_vocab()
    return TextTask(tuple(sorted(ids, key=ids.__getitem__)))


def load_vocabulary(path: str | Path) -> TextTask:
    """Read a `vocab.txt` of BERT's form: a token a line, ## before pieces inside a word.

    Raises:
        DataError: it cannot be read, or lacks a needed token.
    """
    try:
        tokens = expand(path).read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"[{path}] is not UTF-8: give a vocab.txt with a token a line") from None
    except OSError as error:
        raise DataError(f"[{path}] cannot be read: {error.strerror}; give a vocab.txt with a token a line") from None
    # A vocabulary without a capital is that of a lowercasing tokenizer; its own special tokens are capitals.
    lowercase = all(token == token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))
    try:
        return TextTask(tuple(tokens), "words", lowercase)
    except DataError as error:
        raise DataError(f"[{path}] {error}") from None
