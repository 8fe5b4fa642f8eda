"""Files with face data: mode 0600, appearing complete or not at all, found again to be deleted."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from facecam.errors import GalleryDamaged
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


def gallery_present(path: Path) -> bool:
    """Whether the gallery's file is there.

    Raises:
        GalleryDamaged: something else is there, or only the gallery's log is.
    """
    for _ in range(2):
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise GalleryDamaged(
                    f"{escaped(str(path))}: expected the gallery's file, not a folder or device; move it away"
                )
            return True
        except FileNotFoundError:
            if not os.path.lexists(f"{path}-wal"):
                return False
        # Another process may just have made both: look once more before calling it damage.
    raise GalleryDamaged(
        f"{escaped(str(path))}: the gallery is gone, but its log {escaped(path.name)}-wal is there; "
        "put the gallery back, or delete the log to start anew"
    )


def obstacle_to_writing(path: Path) -> str | None:
    """Why the gallery at ``path`` cannot change (its folder takes the log), None if it can."""
    for place in (path.parent, path):
        if not os.access(place, os.W_OK):
            return (
                f"{escaped(str(place))}: cannot be written, so the gallery cannot change; "
                "correct its permissions or name another home by FACECAM_HOME"
            )
    return None


def close_to_others(path: Path) -> None:
    """Take every right from others on the gallery, its log and its shared memory."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(OSError):  # not there, or of another owner: it keeps its mode
            file.chmod(0o600)


def backup_name(path: Path, migration: str) -> Path:
    """The automatic copy of the gallery at ``path`` from before ``migration``."""
    return path.with_name(f"{path.name}.before-{migration}")


def backups(path: Path) -> list[Path]:
    """The automatic copies of the gallery at ``path``, oldest migration first."""
    return _beside(path, ".before-*")


def leftovers(path: Path) -> list[Path]:
    """Drafts beside the gallery that a killed process left (or that another is filling right now)."""
    return _beside(path, ".new-*")


def _beside(path: Path, pattern: str) -> list[Path]:
    name = "".join(f"[{c}]" if c in "*?[" else c for c in path.name)
    return sorted(path.parent.glob(name + pattern))
