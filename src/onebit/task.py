"""Check the task of a packed model, with the same messages for a file, a run folder and a call. docs/program.md is the specification."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onebit.errors import FormatError
from onebit.strict_json import excerpt
from onebit.task_fields import MAX_SIDE as MAX_SIDE
from onebit.task_fields import is_above, is_list, labels_fault, names_fault
from onebit.tasks.kinds import KINDS

# Above any vocabulary in use (the largest have 2^18 tokens). 2^20 tokens load in a second, which bounds the cost of a hostile file.
MAX_VOCABULARY = 1 << 20
MAX_TOKEN_BYTES = 1024
_NEEDED_TOKENS = ("[UNK]", "[PAD]", "[SEP]")


def byte_alphabet() -> list[str]:
    """The characters for the bytes 0 to 255 in GPT-2's order: printable Latin-1 characters stay, the others start at U+0100."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in itself else next(others)) for byte in range(256)]


# The kinds of tasks of language models: our own, and those that were imported.
TEXT_KINDS = ("text-generation", "language-model")


def check_task(task: Any) -> None:
    """Check the values of a task's JSON. Unknown kinds are not checked.

    Raises:
        FormatError: a field is missing, has a wrong type or is out of range.
    """
    if not isinstance(task, dict) or not isinstance(task.get("kind"), str):
        raise FormatError("[task] missing from the metadata, or without a kind; the file is damaged")
    faults = {"image-classification": image_fault, "text-generation": text_fault, "language-model": language_fault}
    kind = task["kind"]
    fault = KINDS[kind].fault(task) if kind in KINDS else faults.get(kind, lambda _: None)(task)
    if fault:
        raise FormatError(f"[task] {fault}; the file is damaged")


def image_fault(task: dict[str, Any]) -> str | None:
    """A fault in the fields of an image classifier's task, or None."""
    labels, size, channels = task.get("labels"), task.get("image_size"), task.get("channels")
    if not is_list(labels):
        return "lacks its labels: needs a list of texts"
    fault = labels_fault(labels)
    if fault:
        return fault
    if not is_list(size) or len(size) != 2 or any(type(n) is not int or not 1 <= n <= MAX_SIDE for n in size):
        return f"image_size={excerpt(size)}: needs (height, width), two integers from 1 to {MAX_SIDE}"
    if type(channels) is not int or channels not in (1, 3):
        return f"channels={excerpt(channels)}: use 1 (grey) or 3 (RGB)"
    for name, least in (("mean", -math.inf), ("std", 0.0)):
        values = task.get(name)
        if not is_list(values) or len(values) != channels or not all(is_above(v, least) for v in values):
            needed = "finite numbers" if name == "mean" else "finite numbers above 0"
            return f"{name}={excerpt(values)}: needs {needed}, one for each of {channels} channels"
    return None


def text_fault(task: dict[str, Any]) -> str | None:
    """A fault in the fields of a language model's task, or None."""
    vocabulary, alphabet = task.get("vocabulary"), task.get("alphabet")
    if not isinstance(vocabulary, str):
        return "has no vocabulary: needs a text with a token in each line"
    if not isinstance(alphabet, str) or alphabet not in ("bytes", "words"):
        return f"alphabet={excerpt(alphabet)}: use 'bytes' or 'words'"
    if type(task.get("lowercase")) is not bool:
        return f"lowercase={excerpt(task.get('lowercase'))}: use true or false"
    # Count the tokens before splitting, because the parts take far more memory than the text.
    if vocabulary.count("\n") >= MAX_VOCABULARY:
        return _too_many(vocabulary.count("\n") + 1)
    return vocabulary_fault(vocabulary.split("\n"), alphabet)


def language_fault(task: dict[str, Any]) -> str | None:
    """A fault in the fields of an imported language model's task, or None. The tokenizer itself is read where it is used."""
    for name in ("tokenizer", "chat_template"):
        if not isinstance(task.get(name, "" if name == "chat_template" else None), str):
            return f"{name}={excerpt(task.get(name))}: needs a text"
    for name in ("starts", "ends"):
        ids = task.get(name)
        if not is_list(ids) or not all(_is_token(index) for index in ids):
            return f"{name}={excerpt(ids)}: needs a list of tokens, integers from 0"
    if not _is_token(task.get("separator")):
        return f"separator={excerpt(task.get('separator'))}: needs a token, an integer from 0"
    return None


def vocabulary_fault(tokens: Sequence[str], alphabet: str) -> str | None:
    """A fault in the tokens of a vocabulary, or None."""
    if len(tokens) > MAX_VOCABULARY:
        return _too_many(len(tokens))
    fault = names_fault(tokens, "the vocabulary", "token")
    if fault:
        return fault
    known = set(tokens)
    for token in _NEEDED_TOKENS:
        if token not in known:
            return f"the vocabulary has no {token}: add a line {token} to it, or use another vocabulary"
    for token in tokens:
        if "\n" in token:
            return f"the token {excerpt(token)} has a line end: the vocabulary is a token a line"
        # A character takes at most four bytes.
        if 4 * len(token) > MAX_TOKEN_BYTES and len(token.encode()) > MAX_TOKEN_BYTES:
            return f"the token {excerpt(token)} has {len(token.encode())} bytes: needs at most {MAX_TOKEN_BYTES}"
    lacking = len(set(byte_alphabet()) - known) if alphabet == "bytes" else 0
    if lacking:
        return f"the vocabulary lacks {lacking} of the 256 bytes: use alphabet='words' with it"
    return None


def check_fit(task: dict[str, Any], input_shape: Sequence[int], output_shape: Sequence[int], tokens: bool) -> None:
    """Check that a valid task fits a program with these shapes of input and output.

    Raises:
        FormatError: it does not fit.
    """
    if task["kind"] == "image-classification":
        count, image = len(task["labels"]), [*task["image_size"], task["channels"]]
        if tokens or list(input_shape) != image or list(output_shape) != [count]:
            raise FormatError(
                f"[task] names {count} labels and images of {image}, but the program takes {list(input_shape)} and gives "
                f"{list(output_shape)}: pack the model again"
            )
    elif task["kind"] == "language-model":
        largest = max([*task["starts"], *task["ends"], task["separator"]])
        if not tokens or len(output_shape) != 2 or largest >= output_shape[-1]:
            raise FormatError(
                f"[task] names the token {largest}, but the program gives {list(output_shape)}: import the model again"
            )
    elif task["kind"] == "text-generation":
        size = task["vocabulary"].count("\n") + 1
        if not tokens or output_shape[-1] != size:
            raise FormatError(
                f"[task] the vocabulary has {size} tokens, but the program gives {list(output_shape)}: pack the model again"
            )
    elif task["kind"] in KINDS:
        described = KINDS[task["kind"]].of_json(task)
        fault = described.fit_fault(tuple(input_shape), tuple(output_shape), tokens)
        if fault is not None:
            raise FormatError(f"[task] {fault}: pack the model again")


def _too_many(count: int) -> str:
    return f"the vocabulary has {count} tokens: needs at most {MAX_VOCABULARY}"


def _is_token(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 24
