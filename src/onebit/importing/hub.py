"""Fetch models from the Hugging Face Hub, through its own library and into its own cache. Nothing else of onebit opens a connection."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from onebit.errors import ForeignModelError
from onebit.printable import one_line

_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(/[\w./-]{1,300}\.gguf)?")
# Never a pickle, and no code.
_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "*.jinja",
)


def is_hub_id(text: str) -> bool:
    """Whether a text is OWNER/NAME, or OWNER/NAME/FILE.gguf."""
    return _ID.fullmatch(text) is not None and ".." not in text


def fetch(name: str) -> Path:
    """The folder of a model of the Hub in the local cache, or a GGUF file of it. What lacks is downloaded.

    Args:
        name: OWNER/NAME for safetensors, OWNER/NAME/FILE.gguf for a file.

    Raises:
        ForeignModelError: huggingface_hub is not installed, there is no such model, or there is no connection.
    """
    try:
        import huggingface_hub as hub
    except ImportError:
        raise ForeignModelError(
            f'[{name}] is on the Hugging Face Hub: pip install "onebit[chat]", or download it and give its folder'
        ) from None
    owner, model, *file = name.split("/", 2)
    try:
        if file:
            return Path(hub.hf_hub_download(f"{owner}/{model}", file[0]))
        return Path(hub.snapshot_download(f"{owner}/{model}", allow_patterns=list(_FILES)))
    except Exception as error:  # its errors come from several libraries of connections
        raise ForeignModelError(f"[{name}] {_reason(error)}") from None


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    if kind in ("RepositoryNotFoundError", "EntryNotFoundError", "RevisionNotFoundError", "GatedRepoError"):
        return "is not on the Hugging Face Hub, or not open to you: check the name, or log in with 'hf auth login'"
    message: Any = one_line(error)
    return f"cannot be fetched ({kind}: {message[:120]}): check the connection, or download it elsewhere and give its folder"
