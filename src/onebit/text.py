"""The task of a language model, and its tokenizer, which is the same for training and for deployment."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, FormatError, shown
from onebit.paths import expand
from onebit.strict_json import excerpt
from onebit.task import byte_alphabet, check_task, vocabulary_fault

if TYPE_CHECKING:
    from onebit._engine import Tokenizer as EngineTokenizer

# BERT's names of padding, of an unknown token, and of the separator between two texts.
PAD, UNKNOWN, SEPARATOR = "[PAD]", "[UNK]", "[SEP]"
Alphabet = Literal["bytes", "words"]
# The longest word to train a vocabulary on. Merging pairs is quadratic in the length of a word. A token has at most 1,024 bytes of UTF-8, two for
# each character that stands for a byte.
_LONGEST_TRAINING_WORD = 500
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def valid_text(text: str) -> tuple[str, int]:
    r"""A text that can be encoded as UTF-8, and the number of U+FFFD that replace invalid parts.

    Python makes lone surrogates from arguments, input and file names that are not UTF-8, and from escapes in JSON. Two that form a pair become
    their character.

    Raises:
        DataError: the text is not a str.

    Example:
        >>> valid_text("caf\udce9")
        ('caf\ufffd', 1)
    """
    if not isinstance(text, str):
        raise DataError(f"[tokenizer] a text of type {type(text).__name__}: give a str")
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = _SURROGATE_PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
        # Surrogates that stand for bytes become those bytes first, so that the result is the same as for a file with these bytes.
        escaped = _SURROGATE_NO_BYTE.sub("\ufffd", joined).encode("utf-8", "surrogateescape")
        replaced = escaped.decode("utf-8", "replace")
        return replaced, replaced.count("\ufffd") - text.count("\ufffd")
    return text, 0


@dataclass(frozen=True)
class TextTask:
    """The task of a language model. A run folder and a packed file contain it.

    Args:
        vocabulary: the WordPiece tokens in the order of the logits. [PAD], [UNK] and [SEP] must be among them.
        alphabet: ``"bytes"`` or ``"words"``. A vocabulary of bytes, which `onebit` trains, encodes every text without loss; a word begins with its
            space. A vocabulary of words is BERT's: pieces inside a word begin with ##. Spaces, unknown characters and words of more than 100
            characters are lost.
        lowercase: whether the text is first lowercased and stripped of accents ("words" only).

    Raises:
        DataError: the vocabulary lacks a needed token, or contains one twice.
    """

    vocabulary: tuple[str, ...]
    alphabet: Alphabet = "bytes"
    lowercase: bool = False

    def __post_init__(self) -> None:
        if self.alphabet not in ("bytes", "words"):
            raise DataError(f"[TextTask] alphabet={self.alphabet!r}: use 'bytes' or 'words'")
        fault = vocabulary_fault(self.vocabulary, self.alphabet)
        if fault:
            raise DataError(f"[TextTask] {fault}")

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
        """The task from the values of `to_json`. Raises FormatError if they do not describe one."""
        check_task(values)
        if values["kind"] != "text-generation":
            raise FormatError(f"[task] kind {excerpt(values['kind'])}: only 'text-generation' is known here")
        return cls(tuple(values["vocabulary"].split("\n")), values["alphabet"], values["lowercase"])

    @property
    def description(self) -> str:
        """The tokenizer in a few words, to print with figures."""
        if self.alphabet == "bytes":
            return f"WordPiece over bytes, {len(self.vocabulary):,} tokens"
        return f"WordPiece of {'lowercased ' if self.lowercase else ''}words, {len(self.vocabulary):,} tokens"


class Tokenizer:
    """Convert text to token ids and back, in the engine. The ids are those of Hugging Face tokenizers; the time is linear in the text.

    Args:
        task: the vocabulary and how it is used.

    Example:
        >>> tokenizer = Tokenizer(train_vocabulary(["one bit"], 300))
        >>> tokenizer.decode(tokenizer.encode("one bit"))
        'one bit'
    """

    def __init__(self, task: TextTask) -> None:
        self.task = task
        self.size = len(task.vocabulary)
        self.pad, self.unknown, self.separator = (task.vocabulary.index(token) for token in (PAD, UNKNOWN, SEPARATOR))
        # What begins and ends a text, and what is never written.
        self.starts, self.ends, self.never = (self.separator,), frozenset([self.separator]), (self.pad, self.unknown)

    @cached_property
    def _tokenizer(self) -> EngineTokenizer:
        # Made for the first text: callers that use only ids do not need it, and `info` works without the engine.
        from onebit._engine import Tokenizer as EngineTokenizer

        return EngineTokenizer("\n".join(self.task.vocabulary), self.task.alphabet == "bytes", self.task.lowercase)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without added tokens at its ends. Invalid parts are replaced; see `valid_text`.

        Raises:
            DataError: the text is not a str.
        """
        text = valid_text(text)[0]
        ids: list[int] = self._tokenizer.encode(text).tolist() if text else []  # without making the tokenizer
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` each text. Other Python threads run meanwhile."""
        return [ids.tolist() for ids in self.arrays(texts)]

    def arrays(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """As `encode_many`, with an int32 array (ids,) per text. Arrays of long texts take far less memory than lists."""
        return self._tokenizer.encode_many([valid_text(text)[0] for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Raises DataError if one is out of range or not an integer."""
        try:
            return self._tokenizer.decode(ids)
        except ValueError as error:
            raise DataError(str(error)) from None
        except TypeError:
            raise DataError(f"[tokenizer] ids={shown(ids)}: give a list of integers") from None

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to a text, in UTF-8. It may end inside a character; of words, a space stands before each."""
        return self._tokenizer.token_bytes(token)

    def stream(self, ids: Iterable[int], prompt: Sequence[int] = ()) -> Iterator[tuple[int, str]]:
        """Yield each id with the piece of text that it completes, or "" if it ends inside a character.

        Args:
            ids: the ids, one after the other.
            prompt: the ids before them, which are not yielded.
        """
        if self.task.alphabet == "bytes":
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            decoder.decode(b"".join(map(self._tokenizer.token_bytes, prompt)))
            for index in ids:
                yield index, decoder.decode(self._tokenizer.token_bytes(index))
            return
        first = len(prompt) == 0
        for index in ids:
            yield index, self._tokenizer.word(index, first)
            first = False


def train_vocabulary(texts: Iterable[str], size: int) -> TextTask:
    """Train a WordPiece vocabulary over bytes.

    Args:
        texts: the texts to train on.
        size: the number of tokens, at least 259: the 256 bytes, [PAD], [UNK] and [SEP]. Little text gives fewer.

    Raises:
        DataError: `size` is too small, or Hugging Face tokenizers, which trains it, is not installed.
    """
    alphabet = sorted(byte_alphabet())
    specials = [PAD, UNKNOWN, SEPARATOR]
    least = len(alphabet) + len(specials)
    if size < least:
        raise DataError(f"[vocabulary] {size} tokens: use at least {least} (256 bytes, {', '.join(specials)})")
    try:
        from tokenizers import Tokenizer as Trainee
        from tokenizers import models, pre_tokenizers, trainers
    except ImportError:
        raise DataError(
            '[vocabulary] is trained with Hugging Face tokenizers: pip install "onebit[train]", or use a vocab.txt'
        ) from None
    tokenizer = Trainee(models.WordPiece(unk_token=UNKNOWN, continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.FixedLength(_LONGEST_TRAINING_WORD),
        ]
    )
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
    """Read a `vocab.txt` in BERT's form: one token per line, with ## before pieces inside a word.

    A byte order mark, blanks and tabs at the ends of lines, and empty lines at the end of the file are ignored. U+2028 and similar characters do
    not end a line, because they may be tokens.

    Raises:
        DataError: the file cannot be read, lacks a needed token, or has a line with more than one token.
    """
    try:
        content = expand(path).read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"[{path}] is not UTF-8: give a vocab.txt with one token per line") from None
    except OSError as error:
        raise DataError(
            f"[{path}] cannot be read: {error.strerror}; give a vocab.txt with one token per line"
        ) from None
    tokens = [line.rstrip(" \t") for line in content.rstrip(" \t\n").split("\n")]
    for number, token in enumerate(tokens, 1):
        if "\t" in token:
            raise DataError(
                f"[{path}] line {number} is {token[:80]!r}: write one token per line, with nothing after it"
            )
    # A vocabulary without capitals belongs to a lowercasing tokenizer. Its special tokens are written in capitals.
    lowercase = all(token == token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))
    try:
        return TextTask(tuple(tokens), "words", lowercase)
    except DataError as error:
        raise DataError(f"[{path}] {error}") from None
