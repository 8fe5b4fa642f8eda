"""Files with private data: mode 0600, appearing complete or not at all, found again to be deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from facecam.errors import FacecamError
from facecam.people.names import escaped


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, mode 0600, to be filled and then put in place; deleted if it was not.

    Raises:
        OSError: it cannot be made.
    """
    name = path.with_name(f"{path.name}.new-{os.getpid()}-{os.urandom(4).hex()}")
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        yield name
    finally:
        name.unlink(missing_ok=True)


def put_in_place(source: Path, path: Path) -> None:
    """Let the finished ``source`` take the place of ``path``, surviving a power cut."""
    with open(source, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(source, path)
    _sync_folder(path.parent)


def put_if_absent(source: Path, path: Path) -> None:
    """As `put_in_place`, but an existing ``path`` stays: of two processes the first one wins."""
    try:
        os.link(source, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            os.rename(source, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder, and writes its entries by itself
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def present(path: Path, noun: str, damaged: type[FacecamError]) -> bool:
    """Whether a database's file is there.

    Args:
        noun: what it is called in messages ("gallery").

    Raises:
        damaged: something else is there, or only its log is.
    """
    for _ in range(2):
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise damaged(f"{escaped(str(path))}: expected the {noun}'s file, not a folder or device; move it away")
            return True
        except FileNotFoundError:
            if not os.path.lexists(f"{path}-wal"):
                return False
        # Another process may just have made both: look once more before calling it damage.
    raise damaged(
        f"{escaped(str(path))}: the {noun} is gone, but its log {escaped(path.name)}-wal is there; "
        f"put the {noun} back, or delete the log to start anew"
    )


def check_link(path: Path, noun: str, error: type[FacecamError]) -> None:
    """Refuse a link that leads nowhere: its disk is not mounted, and nothing is to be made in its place.

    Raises:
        error: it is one.
    """
    if path.is_symlink() and not path.exists():
        raise error(
            f"{escaped(str(path))}: is a link to {escaped(os.path.realpath(path))}, which is not there; mount its disk "
            f"or put the {noun} back, or delete the link to start anew"
        )


def obstacle_to_writing(path: Path, noun: str, place: str) -> str | None:
    """Why the database at ``path`` cannot change (its folder takes the log), None if it can.

    Args:
        noun, place: what it is called, and how else to find a place for it.
    """
    for folder in (path.parent, path):
        if not os.access(folder, os.W_OK):
            return (
                f"{escaped(str(folder))}: cannot be written, so the {noun} cannot change; "
                f"correct its permissions or {place}"
            )
    return None


def close_to_others(path: Path) -> None:
    """Take every right from others on the database, its log and its shared memory."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(OSError):  # not there, or of another owner: it keeps its mode
            file.chmod(0o600)


def backup_name(path: Path, migration: str) -> Path:
    """The automatic copy of the file at ``path`` from before ``migration``."""
    return path.with_name(f"{path.name}.before-{migration}")


def last_good(path: Path) -> Path:
    """The automatic copy of the file at ``path`` after its last change."""
    return path.with_name(f"{path.name}.last-good")


def written(path: Path) -> str:
    """When a file was written, for a message: "2026-01-31 12:00 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(path.stat().st_mtime))


def aside_name(path: Path, stamp: str) -> Path:
    """Where the file at ``path`` is kept when another takes its place."""
    return path.with_name(f"{path.name}.aside-{stamp}")


def backups(path: Path) -> list[Path]:
    """The automatic copies of the file at ``path``: from before migrations, and, in the end, the last good one."""
    found = [*_beside(path, ".before-*"), *_beside(path, ".last-good")]
    return [copy for copy in found if ".new-" not in copy.name]


def kept_aside(path: Path) -> list[Path]:
    """What stood in the place of the file at ``path`` before something was restored, with logs."""
    return _beside(path, ".aside-*")


def move_aside(path: Path, aside: Path) -> None:
    """Let a damaged database stand at ``aside`` with its log, and its log no longer at ``path``.

    ``path`` itself stays, for its successor to replace: a kill in between loses nothing.

    Raises:
        OSError: it cannot be done.
    """
    for ending in ("", "-wal"):
        old, new = Path(f"{path}{ending}"), Path(f"{aside}{ending}")
        if not old.exists():
            continue
        try:
            os.link(old, new)
        except OSError:  # a file system without links
            shutil.copyfile(old, new)
        new.chmod(0o600)
    _sync_folder(path.parent)
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Drafts of the file and of its copies that a killed process left (or that another is filling right now)."""
    endings = (".new-*", ".last-good.new-*", ".before-*.new-*", ".aside-*.new-*")
    return [draft for ending in endings for draft in _beside(path, ending)]


def _beside(path: Path, pattern: str) -> list[Path]:
    name = "".join(f"[{c}]" if c in "*?[" else c for c in path.name)
    return sorted(path.parent.glob(name + pattern))
