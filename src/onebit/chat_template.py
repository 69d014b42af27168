"""Messages of a chat as the text that a model continues: its own template in Jinja, in the sandbox that transformers sets up."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from onebit.errors import DataError
from onebit.printable import one_line

MOST_CHARACTERS = 1 << 20
# Of computing, for one text. Templates take milliseconds.
MOST_SECONDS = 2
# Python, Jinja and the longest messages take a tenth.
_MEMORY_BYTES = 256 << 20
_PROGRAM = Path(__file__).with_name("template_process.py")
# What of the environment a process of Python may need. The rest, such as keys, is nothing for templates.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "TZ")


def render(template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str] | None = None) -> str:
    """The text of messages, ending where the assistant's answer begins.

    It is computed in another process, which takes the next text too. Threads wait for each other.

    Args:
        template: in Jinja. It may read nothing but what it is given.
        messages: each with a role and a content.
        tokens: names of special tokens that templates use: ``bos_token`` and ``eos_token``.

    Raises:
        DataError: jinja2 is not installed, or the template is wrong, refuses the messages, or takes too much time, text or memory.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise DataError('[chat] templates of chats need jinja2: pip install "onebit[chat]"')
    given = {
        "bos_token": "",
        "eos_token": "",
        **(tokens or {}),
        "messages": [dict(message) for message in messages],
        "add_generation_prompt": True,
    }
    answer = _renderer.ask({"template": template, "given": given, "most_characters": MOST_CHARACTERS})
    if "refused" in answer:
        raise DataError(f"[chat] the model's template {one_line(answer['refused'])[:200]}")
    return answer["text"]


class _Renderer:
    """The process, which is started when it is first needed, and again after a template has ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Mapping[str, object]) -> dict[str, str]:
        """The answer to a request."""
        with self._lock:
            process = self._running()
            assert process.stdout is not None
            try:
                _write(process, request)
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            if line:
                found: dict[str, str] = json.loads(line)
                return found
            code = process.wait()
            self.close()
        late = code == -signal.SIGPROF
        return {"refused": f"takes more than {MOST_SECONDS} seconds" if late else f"ends its process, with {code}"}

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # Python without its site: the process looks for packages where this one does. A signal for a terminal's group does not reach it.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )
            _write(self._process, {"path": sys.path, "memory_bytes": _MEMORY_BYTES, "seconds": MOST_SECONDS})
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def forget(self) -> None:
        """Leave the process to the parent, after a fork."""
        self._lock, self._process = threading.Lock(), None


def _write(process: subprocess.Popen[str], message: Mapping[str, object]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


_renderer = _Renderer()
atexit.register(_renderer.close)
os.register_at_fork(after_in_child=_renderer.forget)
