"""One of the processes that train together, as `launch` starts it."""

from __future__ import annotations

import json
import os
import signal
import threading
import traceback
from pathlib import Path

from onebit.errors import OnebitError
from onebit.fileformat import write_atomically
from onebit.training.layout import Layout
from onebit.training.process import train_in_process
from onebit.training.recipe import load_recipe


def work(name: str) -> None:
    """Be one of the processes, with what is to be done in a folder: train, leave word of what went wrong, and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whatever unblocks it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rank, folder = os.environ["RANK"], Path(name)
    try:
        options = json.loads((folder / "options.json").read_text())
        layout = Layout(options.pop("devices"), options.pop("nodes"), options.pop("strategy"))
        train_in_process(load_recipe(folder / "recipe.yaml"), Path(options.pop("out")), layout=layout, **options)
    except (OnebitError, OSError) as error:
        _leave(folder / f"error-{rank}.json", json.dumps([type(error).__name__, str(error)]))
    except Exception:
        _leave(folder / f"failed-{rank}.txt", traceback.format_exc())


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def _leave(file: Path, text: str) -> None:
    """Write a last word and end at once: what would be torn down waits for the other processes."""
    write_atomically(file, text.encode())
    os._exit(1)
