"""Which files of a folder are the user's: hidden ones and what computers leave behind are not."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onebit.errors import DataError

# Names without a dot, in lower case, that hold copies or leavings: thumbnails and bins of Synology and QNAP, macOS's halves of files in a zip
# archive, Windows's bin and snapshots, ext4's lost files.
_LEAVINGS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "__macosx"),
    *("$recycle.bin", "system volume information", "lost+found"),
}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out wherever data are read."""
    return name.startswith(".") or name.lower() in _LEAVINGS


@dataclass
class Tree:
    """What lies below a folder, each sorted.

    Args:
        files: regular files that are not hidden, and links that lead nowhere.
        hidden: files and folders that were left out, without what lies in those folders.
    """

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)


def walk(root: Path) -> Tree:
    """Find all files below a folder, in folders of any depth.

    Links to folders are followed. A folder is read once, so that a loop of links ends.

    Raises:
        DataError: a folder cannot be read.
    """
    tree = Tree()
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        found = entries(folder)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders = []
        for entry in found:
            if is_hidden(entry.name):
                tree.hidden.append(Path(entry))
                continue
            try:
                mode = entry.stat().st_mode
            except OSError:
                tree.files.append(Path(entry))  # whoever reads it says what is wrong
                continue
            if stat.S_ISDIR(mode):
                folders.append(Path(entry))
            elif stat.S_ISREG(mode):  # a pipe would be waited for
                tree.files.append(Path(entry))
        waiting += reversed(folders)
    tree.files.sort()
    tree.hidden.sort()
    return tree


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name; raises DataError where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"[{folder}] cannot be read: {error.strerror}") from None


def note_of_left_out(where: str, hidden: Sequence[str], other: Sequence[str]) -> list[str]:
    """A sentence for the user about what is not read, or none.

    Args:
        where: the data, as the user named them.
        hidden: names of files and folders.
        other: names of files that were left out for another reason.
    """
    parts = []
    for names, one, many in (
        (hidden, "hidden file or folder", "hidden files or folders"),
        (other, "other file", "other files"),
    ):
        if names:
            parts.append(f"{len(names):,} {one if len(names) == 1 else many}, the first {min(names)}")
    return [f"{where}: left out {' and '.join(parts)}"] if parts else []
