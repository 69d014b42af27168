"""The last chat of a session in a file: its messages, its tokens, and what the engine keeps of them, which need not be computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import FormatError
from onebit.fileformat import PackedModel, write_atomically
from onebit.paths import expand
from onebit.strict_json import excerpt, parse

VERSION = "1"
# Of a tensor's bytes: its beginning, its middle and its end.
_SAMPLE_BYTES = 512


@dataclass(frozen=True)
class SavedState:
    """What a file of a session holds.

    Args:
        tokens: those that the engine has read, int32.
        memory: what it keeps of them, as bytes.
        messages: of the chat.
    """

    tokens: NDArray[np.int32]
    memory: NDArray[np.uint8]
    messages: list[dict[str, str]]


def fingerprint(model: PackedModel) -> str:
    """A number of a model's program and tensors, from samples of their bytes: reading all would take as long as loading."""
    made = hashlib.sha256(model.program.to_json().encode())
    for name in sorted(model.tensors):
        tensor = model.tensors[name]
        made.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        content = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        for first in (0, len(content) // 2, max(0, len(content) - _SAMPLE_BYTES)):
            made.update(content[first : first + _SAMPLE_BYTES].tobytes())
    return made.hexdigest()


def write_state(path: str | Path, state: SavedState, session: Mapping[str, str]) -> int:
    """Write a state, whole or not at all; returns the file's size in bytes.

    Args:
        path: the file.
        state: what to write.
        session: what a session must have to take it up: its model, its precision and its cache.

    Raises:
        OSError: the file cannot be written.
    """
    from safetensors.numpy import save

    messages = json.dumps(state.messages)
    metadata = {"onebit_state": VERSION, **session, "messages": messages, "checksum": _checksum(state, messages)}
    content = save({"tokens": state.tokens, "memory": state.memory}, metadata)
    write_atomically(path, content)
    return len(content)


def read_state(path: str | Path, session: Mapping[str, str]) -> SavedState:
    """Read a state and check all of it.

    Args:
        path: the file.
        session: what the session has; see `write_state`.

    Raises:
        FormatError: the file is missing, damaged, not one of a session, or of another model, precision or cache.
    """
    path = expand(path)
    metadata, tensors = _read(path)
    if metadata.get("onebit_state") != VERSION:
        found = metadata.get("onebit_state")
        if found is None:
            raise FormatError(f"[{path}] is not a saved session: session.save_state or onebit chat --session make one")
        raise FormatError(f"[{path}] version {excerpt(found)}: this onebit reads {VERSION!r}; start a new session")
    for what, here in session.items():
        if metadata.get(what) != here:
            seen = "another model" if what == "model" else f"{what} {excerpt(metadata.get(what))}, not {here!r}"
            raise FormatError(f"[{path}] was saved with {seen}: load it as then, or start a new session")
    tokens, memory = _of_type(tensors, "tokens", np.int32), _of_type(tensors, "memory", np.uint8)
    if tokens is None or memory is None:
        raise _damaged(path, "its tokens or its memory are missing")
    messages = metadata.get("messages", "")
    state = SavedState(tokens, memory, [])
    if metadata.get("checksum") != _checksum(state, messages):
        raise _damaged(path, "its checksum is another")
    return SavedState(tokens, memory, _messages(path, messages))


def _of_type(tensors: Mapping[str, NDArray[Any]], name: str, dtype: type[np.generic]) -> NDArray[Any] | None:
    tensor = tensors.get(name)
    return tensor if tensor is not None and tensor.dtype == dtype and tensor.ndim == 1 else None


def _read(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise FormatError(f"[{path}] is not a file: give one that a session was saved to")
        with safe_open(path, "numpy") as file:
            names = [name for name in ("tokens", "memory") if name in file.keys()]  # noqa: SIM118 (it is no mapping)
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise FormatError(f"[{path}] no such file") from None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, FormatError):
            raise
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise FormatError(f"[{path}] cannot be read: {error.strerror or error}") from None


def _messages(path: Path, text: str) -> list[dict[str, str]]:
    try:
        messages = parse(text, "messages")
    except FormatError as error:
        raise _damaged(path, str(error)) from None
    keys = {"role", "content"}
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and m.keys() == keys and all(isinstance(value, str) for value in m.values())
        for m in messages
    ):
        raise _damaged(path, "its messages are none")
    return messages


def _damaged(path: Path, what: str) -> FormatError:
    return FormatError(f"[{path}] damaged: {what}; start a new session")


def _checksum(state: SavedState, messages: str) -> str:
    made = hashlib.sha256(messages.encode())
    for part in (state.tokens, state.memory):
        made.update(np.ascontiguousarray(part).data)
    return made.hexdigest()
