"""The settings of a server: their defaults, and where they come from. Flags come before the environment, and that before the file of --config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError, RecipeError, shown
from onebit.paths import expand
from onebit.processors import cores

PREFIX = "ONEBIT_SERVE_"


def _setting(default: Any, metavar: str, text: str, least: float = 0, most: float = 1 << 40) -> Any:
    return field(default=default, metadata={"metavar": metavar, "help": text, "least": least, "most": most})


@dataclass(frozen=True)
class Settings:
    """The settings of `onebit serve`. Each is a flag, a variable such as ONEBIT_SERVE_PORT, and a key of the file of --config."""

    host: str = _setting("127.0.0.1", "HOST", "address to listen on")
    port: int = _setting(8080, "PORT", "port to listen on; 0 takes a free one", most=65535)
    api_key: tuple[str, ...] = _setting((), "KEY", "a key that clients must send; may be given several times")
    api_key_file: str = _setting("", "PATH", "a file with a key in each line")
    insecure: bool = _setting(False, "", "listen on other addresses without a key")
    allow_host: tuple[str, ...] = _setting((), "NAME", "a name by which clients may call this server; may be repeated")
    workers: int = _setting(1, "N", "processes that share the port", least=1, most=256)
    threads: int = _setting(0, "N", "threads of the engine in each process; 0 leaves a core to the answers", most=256)
    precision: str = _setting("int8", "P", "arithmetic of the engine: int8 or float32")
    cache: str = _setting("", "TYPE", "number type of the KV cache: bf16 or int8; empty is the precision's own")
    memory: int = _setting(4096, "MB", "put away the model that was not used for longest beyond this", least=1)
    max_concurrent: int = _setting(32, "N", "texts that a model writes at once", least=1, most=4096)
    max_queue: int = _setting(256, "N", "texts and images that wait for a model; more are refused with 429", least=1)
    prefixes: int = _setting(16, "N", "ended texts that are kept for those that begin in the same way", most=4096)
    max_tokens: int = _setting(4096, "N", "most tokens that a request may write for each of its texts", least=1)
    max_texts: int = _setting(64, "N", "most texts of a request, and most images", least=1, most=4096)
    max_body: int = _setting(8, "MB", "most megabytes of a request's body", least=1, most=1024)
    max_pixels: int = _setting(33, "M", "most million pixels of an image", least=1, most=64)
    max_connections: int = _setting(2048, "N", "connections at once; more are refused with 503", least=1)
    timeout: float = _setting(300.0, "S", "seconds after which a request is ended", least=0.001)
    body_timeout: float = _setting(30.0, "S", "seconds in which a request must have arrived", least=0.001)
    write_timeout: float = _setting(30.0, "S", "seconds for which a client may leave its answer unread", least=0.001)
    drain: float = _setting(30.0, "S", "seconds for which requests may go on after SIGTERM", least=0)

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that clients may send. Raises OnebitError if the file with keys cannot be read or has none."""
        if not self.api_key_file:
            return self.api_key
        try:
            lines = expand(self.api_key_file).read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise OnebitError(f"[serve] the file of keys {self.api_key_file} cannot be read: {error}") from None
        keys = tuple(line.strip() for line in lines if line.strip())
        if not keys:
            raise OnebitError(f"[serve] the file of keys {self.api_key_file} is empty: write a key in each line")
        return self.api_key + keys

    @property
    def engine_threads(self) -> int:
        """Threads of the engine in each process."""
        # Tokens are chosen and sent by a further thread: an engine on all cores waits for it, and it for the engine.
        return self.threads or max(1, cores() // self.workers - 1)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine reach the server."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def check(self) -> Settings:
        """Check the settings against each other. Raises OnebitError if they do not fit."""
        for name, allowed in (("precision", ("int8", "float32")), ("cache", ("", "bf16", "int8"))):
            if getattr(self, name) not in allowed:
                words = " or ".join(repr(word) for word in allowed if word)
                raise OnebitError(f"[serve] {name}={shown(getattr(self, name))}: use {words}")
        if any(not key.isascii() or not key.isprintable() or " " in key for key in self.keys):
            raise OnebitError("[serve] a key has a blank or a character beyond ASCII: use letters, digits and signs")
        if not self.is_local and not self.keys and not self.insecure:
            raise OnebitError(
                f"[serve] --host {self.host} is reached from other machines: give --api-key, or --insecure to serve everybody"
            )
        return self


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from flags, the environment and the file that `config` among them names.

    Raises:
        OnebitError: a value is wrong, or the settings do not fit each other.
    """
    config = flags.get("config") or environment.get(PREFIX + "CONFIG")
    values = _read_file(config) if config else {}
    for item in fields(Settings):
        variable = PREFIX + item.name.upper()
        if variable in environment:
            values[item.name] = _checked(item, environment[variable], variable)
        if flags.get(item.name) is not None:
            values[item.name] = _checked(item, flags[item.name], "--" + item.name.replace("_", "-"))
    return replace(Settings(), **values).check()


def _read_file(path: str | Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise OnebitError('[serve] --config needs PyYAML: pip install "onebit[serve]"') from None
    try:
        values = yaml.safe_load(expand(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"[{path}] cannot be read: {shown(str(error))}") from None
    if values is not None and not isinstance(values, dict):
        raise RecipeError(f"[{path}] is not a list of settings: write one in each line, such as port: 8080")
    known = {item.name: item for item in fields(Settings)}
    read = {str(name).replace("-", "_"): value for name, value in (values or {}).items()}
    for name in read:
        if name not in known:
            raise RecipeError(f"[{path}] {shown(name)} is not a setting: use {', '.join(known)}")
    return {name: _checked(known[name], value, f"{path}: {name}") for name, value in read.items()}


def _checked(item: Any, value: Any, where: str) -> Any:
    kind = type(item.default)
    if kind is tuple:
        values = value.split(",") if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)) or not all(isinstance(text, str) and text for text in values):
            raise OnebitError(f"[serve] {where} is not a list of texts: give one or more")
        return tuple(values)
    if kind is bool:
        words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        found = value if isinstance(value, bool) else words.get(str(value).lower())
        if found is None:
            raise OnebitError(f"[serve] {where}={shown(value)}: use true or false")
        return found
    if kind is str:
        if not isinstance(value, str):
            raise OnebitError(f"[serve] {where}={shown(value)}: give a text")
        return value
    try:
        number = float("nan") if isinstance(value, bool) else kind(value)
    except (TypeError, ValueError):
        number = float("nan")
    least, most = item.metadata["least"], item.metadata["most"]
    if not least <= number <= most or number != float(value):
        raise OnebitError(
            f"[serve] {where}={shown(value)}: use a {'whole ' * (kind is int)}number from {least:g} to {most:g}"
        )
    return number
