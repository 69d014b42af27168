"""A folder that one training at a time writes to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from onebit.errors import OnebitError

LOCK = ".lock"
_ATTEMPTS = 1000
_HOLDER = "process "
# Of a file system that knows no locks.
_UNKNOWN = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or the lock alone that a killed training has left."""
    return all(entry.name == LOCK for entry in folder.iterdir())


@contextlib.contextmanager
def hold(folder: Path, where: str = "train") -> Iterator[int]:
    """Keep others from training into a folder, which is made where it is not there, for as long as the body runs.

    The lock is the kernel's (`flock` on FOLDER/.lock) and ends with the process, however that ends; the file says who holds it. A folder in which
    the body has left nothing is removed again. On a file system without locks nothing is kept off. A `.lock` of anything else is left alone.

    Args:
        folder: of the run, or of the table.
        where: the command, for messages.

    Yields:
        The descriptor of the lock, for processes that are to hold it too.

    Raises:
        OnebitError: another process holds the folder, it is a file, or its `.lock` is not one of onebit's.
        OSError: the folder cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise OnebitError(f"[{where}] {folder} is a file: give another --out")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    descriptor = _lock(folder, where)
    try:
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{_HOLDER}{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):  # what is not empty stays
            for path in made:
                path.rmdir()


def _lock(folder: Path, where: str) -> int:
    attempts = 0
    while True:
        attempts += 1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # What a link leads to is not ours to write, and a pipe may have no other end to wait for.
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except (FileNotFoundError, FileExistsError):
            # Its last holder has just removed the folder, or one above it. A link to nowhere stays one.
            if attempts == _ATTEMPTS:
                raise
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise _not_ours(folder, where) from None
            raise
        if not _is_ours(descriptor):
            os.close(descriptor)
            raise _not_ours(folder, where)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(folder / LOCK, descriptor):
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise OnebitError(
                f"[{where}] {folder} is in use by {holder}: wait until that has ended, or give another --out"
            ) from None
        except OSError as error:
            if error.errno in _UNKNOWN:
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    """Whether an open file is a lock that onebit made, or has only just made: nothing else may be emptied and removed."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    return os.pread(descriptor, len(_HOLDER), 0).decode(errors="replace") in ("", _HOLDER)


def _not_ours(folder: Path, where: str) -> OnebitError:
    return OnebitError(f"[{where}] {folder / LOCK} is not a lock of onebit: move it away, or give another --out")


def _is_there(file: Path, descriptor: int) -> bool:
    """Whether an open file is still the one of its name: its last holder may have removed it between our opening and locking it."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
