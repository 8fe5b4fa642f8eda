"""Outputs appear whole or not at all: a temporary file beside the target, fsync, one rename.

A writer holds a lock on its temporary file, which the system takes from it when it dies. So whoever writes into the
folder next knows what a killed writer left, and takes it away.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from facecam.errors import OutputError

if sys.platform != "win32":
    import fcntl

#: Temporary files begin and end like this, so that a leftover of a killed process can be told.
PREFIX = ".facecam-"
SUFFIX = ".part"
#: Folders that this process has swept: once is enough, since what dies later is found by the next one.
_swept: set[Path] = set()
#: Temporary files of this process (by number, since one that is forked is another): named here before they are made.
_own: set[tuple[int, Path]] = set()

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOENT: "the folder does not exist; make it first",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "that is a folder; name a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EFBIG: "the file system allows no file of that size; choose another folder",
}
#: What a write to an open file fails with.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The one-line OutputError of an OSError met while writing ``path``."""
    reason = _REASONS.get(error.errno or 0) or f"{error.strerror or error}"
    return OutputError(f"{os.fspath(path)}: cannot be written: {reason}")


class Pending:
    """A file under way: written at `temp`, seen at `path` only after `commit`.

    The temporary file has mode 0600 and keeps it: outputs of this tool hold faces and names.

    Args:
        path: where the file shall appear; a symbolic link is followed.
        overwrite: replace a file that is already there.

    Raises:
        OutputError: the target exists (without ``overwrite``), is not a regular file, or its folder
            cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(os.path.realpath(path))
        self._overwrite = overwrite
        self._check()
        if self.path.parent not in _swept:
            _swept.add(self.path.parent)
            sweep(self.path.parent)
        try:
            self._lock, self.temp = _temporary(self.path.parent)
        except OSError as error:
            raise output_error(path, error) from error

    def _check(self) -> None:
        try:
            exists = self.path.exists()
            if exists and not self.path.is_file():
                raise OutputError(f"{self.path}: is not a regular file; name a file to write")
        except OSError as error:
            raise output_error(self.path, error) from error
        if exists and not self._overwrite:
            raise OutputError(f"{self.path}: exists already; use --overwrite or move it away")

    def commit(self) -> None:
        """Make the file durable, then visible under its name.

        Raises:
            OutputError: it could not be done; nothing is left behind.
        """
        try:
            self._check()
            with open(self.temp, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self.temp, self.path)
            self._let_go()
        except OSError as error:
            self.discard()
            raise output_error(self.path, error) from error
        except OutputError:
            self.discard()
            raise
        # The rename itself is durable only with the folder; not every file system offers it.
        with contextlib.suppress(OSError):
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Remove the temporary file; harmless when there is none."""
        with contextlib.suppress(OSError):
            self.temp.unlink()
        self._let_go()

    def _let_go(self) -> None:
        _own.discard((os.getpid(), self.temp))
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _temporary(folder: Path) -> tuple[int | None, Path]:
    """A new file that says that it is in use: (what holds it, None where the system has no such locks; its path)."""
    while True:
        path = folder / f"{PREFIX}{secrets.token_hex(6)}{SUFFIX}"
        _own.add((os.getpid(), path))
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            _own.discard((os.getpid(), path))
            raise
        if sys.platform == "win32":  # a file that is open cannot be deleted there, nor renamed
            os.close(handle)
            return None, path
        with contextlib.suppress(OSError):  # a file system without locks: nobody else gets one either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, path
        os.close(handle)  # swept between its making and its lock


@atexit.register
def clear() -> None:
    """Delete what this process leaves half-written: Ctrl-C may come between a file's making and its guard."""
    for number, path in _own.copy():
        if number == os.getpid():
            with contextlib.suppress(OSError):
                path.unlink()
            _own.discard((number, path))


def sweep(folder: Path) -> int:
    """Delete what writers that are dead left half-written in ``folder``; returns how many files.

    A file whose writer lives, on whatever file system that knows locks, is left alone; so is one that cannot be judged.
    """
    gone = 0
    if sys.platform == "win32":
        return gone
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(PREFIX) and name.endswith(SUFFIX):
                gone += _delete_dead(folder / name)
    return gone


def _delete_dead(path: Path) -> bool:
    assert sys.platform != "win32"
    try:
        # NONBLOCK: somebody may have put a pipe of that name there.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@contextlib.contextmanager
def atomic_text(path: str | os.PathLike[str], *, overwrite: bool = False, newline: str = "\n") -> Iterator[IO[str]]:
    """A UTF-8 text file to write; it appears at ``path`` when the block ends without an exception.

    Args:
        newline: as for `open`; pass "" for the csv module.

    Raises:
        OutputError: see `Pending`; also when a write inside the block fails (disk full).
    """
    pending = Pending(path, overwrite=overwrite)
    try:
        # backslashreplace: a file name of another encoding must not spoil the whole file's UTF-8
        file = pending.temp.open("w", encoding="utf-8", errors="backslashreplace", newline=newline)
        with _naming(pending.path, file):
            yield file
    except BaseException:
        pending.discard()
        raise
    pending.commit()


@contextlib.contextmanager
def _naming(path: Path, file: IO[str]) -> Iterator[None]:
    """Close ``file``; turn the OSErrors of this very file's writes into an OutputError."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            file.close()
        if error.errno in _WRITE_ERRORS:
            raise output_error(path, error) from error
        raise  # something else that the block did: a pipe, another file
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise output_error(path, error) from error


def atomic_bytes(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all.

    Raises:
        OutputError: see `Pending`.
    """
    pending = Pending(path, overwrite=overwrite)
    try:
        with open(pending.temp, "wb") as file:
            file.write(data)
    except OSError as error:
        pending.discard()
        raise output_error(path, error) from error
    except BaseException:
        pending.discard()
        raise
    pending.commit()
