"""Sees that the gallery was changed by another process, and makes the new matcher beside recognition."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from facecam.errors import FacecamError
from facecam.people.gallery import Gallery
from facecam.pipeline import Matches

#: How often the gallery is looked at, seconds; asking for its version costs some ten microseconds.
_EVERY: Final = 0.5
_JOIN_SECONDS: Final = 0.3


class GalleryWatch:
    """A thread that looks; what it cannot read is told once, and the old matcher stays.

    Args:
        path: of the gallery, which may come into being later, or be replaced by another file.
        gallery: the one in use, None where nobody was ever enrolled; it is not closed here.
        open_gallery: opens another file that has come to stand at ``path``.
        matcher: makes the matcher of a gallery.
        note: told, in a line, why a changed gallery cannot be used.
    """

    def __init__(
        self,
        path: Path,
        gallery: Gallery | None,
        open_gallery: Callable[[], Gallery | None],
        matcher: Callable[[Gallery], Matches],
        note: Callable[[str], None],
    ) -> None:
        self._path, self._gallery, self._open = path, gallery, open_gallery
        self._make, self._note = matcher, note
        self._file = _identity(path) if gallery is not None else None
        self._version = gallery.version() if gallery is not None else None
        self._new: Matches | None = None
        self._wake = threading.Event()
        self._forced = self._ending = False
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="facecam-gallery", daemon=True)
        self._thread.start()

    def take(self) -> Matches | None:
        """The matcher of a gallery that has changed since the last call, else None."""
        new, self._new = self._new, None
        return new

    def reload(self) -> None:
        """Read the gallery now, changed or not."""
        self._forced = True
        self._wake.set()

    def close(self) -> None:
        """End the thread; one that waits for another process's lock is left behind."""
        self._ending = True
        self._wake.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._ending:
            forced, self._forced = self._forced, False
            try:
                self._look(forced)
                self._said = ""
            except FacecamError as error:
                if str(error) != self._said and not self._ending:
                    self._said = str(error)
                    self._note(f"the gallery as it was stays in use: {error}")
            self._wake.wait(_EVERY)
            self._wake.clear()

    def _look(self, forced: bool) -> None:
        file = _identity(self._path)
        if file is None:
            return  # nobody was ever enrolled, or the file is being replaced
        if self._gallery is None or file != self._file:
            self._gallery, self._version = self._open(), None  # the old one may be in use elsewhere: not closed
            self._file = file
        if self._gallery is None:
            return
        version = self._gallery.version()
        if forced or version != self._version:
            self._new = self._make(self._gallery)
            self._version = version


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands at the path; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
