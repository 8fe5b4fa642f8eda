"""One run at a time writes an index: two would take the same files and each undo what the other noted."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from facecam.errors import ArchiveError
from facecam.people.names import escaped


@contextlib.contextmanager
def alone(index: Path) -> Iterator[None]:
    """Hold ``index`` for this process; the system lets go of it when the process ends, in whatever way.

    Raises:
        ArchiveError: another run holds it.
    """
    try:
        # Beside the file itself: two runs may come by it on different ways.
        handle = os.open(f"{os.path.realpath(index)}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        yield  # opening the index itself tells what is wrong with the folder
        return
    try:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArchiveError(
                f"{escaped(str(index))}: another facecam is writing this archive index; wait for it or end it"
            ) from error
        yield
    finally:
        os.close(handle)
