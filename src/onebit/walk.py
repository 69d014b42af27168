"""Find the user's files in a folder. Hidden files and files that operating systems leave there are skipped."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onebit.errors import DataError

# Names, in lower case, of folders without a leading dot that contain copies or remains: thumbnails and bins of Synology and QNAP, macOS's
# resource forks in a zip archive, Windows's bin and snapshots, ext4's lost files.
_LEAVINGS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "__macosx"),
    *("$recycle.bin", "system volume information", "lost+found"),
}


def is_hidden(name: str) -> bool:
    """Whether a file or folder with this name is skipped."""
    return name.startswith(".") or name.lower() in _LEAVINGS


@dataclass
class Tree:
    """The files below a folder. Both lists are sorted.

    Args:
        files: regular files that are not hidden, and broken links.
        hidden: files and folders that were skipped. The contents of these folders are not listed.
    """

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)


def walk(root: Path) -> Tree:
    """Find all files below a folder, at any depth.

    Links to folders are followed. Each folder is read only once, so that a loop of links ends.

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
                tree.files.append(Path(entry))  # the reader of the file reports the error
                continue
            if stat.S_ISDIR(mode):
                folders.append(Path(entry))
            elif stat.S_ISREG(mode):  # opening a pipe would block
                tree.files.append(Path(entry))
        waiting += reversed(folders)
    tree.files.sort()
    tree.hidden.sort()
    return tree


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name. Raises DataError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"[{folder}] cannot be read: {error.strerror}") from None


def note_of_left_out(where: str, hidden: Sequence[str], other: Sequence[str]) -> list[str]:
    """A list with one sentence about the files that were skipped, or an empty list.

    Args:
        where: the data, as the user named them.
        hidden: the names of hidden files and folders.
        other: the names of files that were skipped for another reason.
    """
    parts = []
    for names, one, many in (
        (hidden, "hidden file or folder", "hidden files or folders"),
        (other, "other file", "other files"),
    ):
        if names:
            parts.append(f"{len(names):,} {one if len(names) == 1 else many}, the first {min(names)}")
    return [f"{where}: left out {' and '.join(parts)}"] if parts else []
