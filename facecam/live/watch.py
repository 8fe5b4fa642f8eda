"""Sees that the gallery was changed by another process, and makes the new matcher beside recognition."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facecam.errors import FacecamError
from facecam.evidence import Matches
from facecam.people.gallery import Gallery
from facecam.people.names import escaped
from facecam.people.unknown import UnknownBook

#: How often the gallery is looked at, seconds; asking for its version costs some ten microseconds.
_EVERY: Final = 0.5
_JOIN_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Change:
    """What goes into use when the gallery has changed.

    Attributes:
        matcher: of the gallery as it is now.
        book: where another gallery stands in the place, its book of unknown people; else None, and the one in use
            is read anew.
    """

    matcher: Matches
    book: UnknownBook | None = None


class GalleryWatch:
    """A thread that looks; what it cannot read is told once, and the old matcher stays.

    Args:
        path: of the gallery, which may come into being later, be restored, or be replaced by another file.
        open_gallery: opens the file at ``path``; None where there is none.
        matcher, book: make those of a gallery.
        note: told, in a line, why a changed gallery cannot be used.

    Attributes:
        gallery: as it was opened at the start, None where nobody was ever enrolled. It stays open, also when
            another one has taken its place: what is being written to it is written.

    Raises:
        FacecamError: the gallery cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        open_gallery: Callable[[], Gallery | None],
        matcher: Callable[[Gallery], Matches],
        book: Callable[[Gallery], UnknownBook | None],
        note: Callable[[str], None],
    ) -> None:
        self._path, self._open = path, open_gallery
        self._matcher, self._book, self._note = matcher, book, note
        # Looked at before it is read: a change that comes in between is found afterwards.
        self._file = _identity(path)
        self._current = self.gallery = open_gallery()
        self._origin = self._current.origin() if self._current is not None else None
        self._version = self._current.version() if self._current is not None else None
        self._another = False  # the book in use is that of another gallery
        self._new: Change | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._forced = self._ending = False
        self._missing = 0
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="facecam-gallery", daemon=True)
        self._thread.start()

    def take(self) -> Change | None:
        """What a gallery that has changed since the last call brings, else None."""
        with self._lock:
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
            except FacecamError as error:
                self._say(f"the gallery as it was stays in use: {error}")
            self._wake.wait(_EVERY)
            self._wake.clear()

    def _look(self, forced: bool) -> None:
        file = _identity(self._path)
        if file is None:
            self._miss()
            return
        self._missing = 0
        if self._current is None or file != self._file:
            # Writing to a file that lost its name goes well, and nobody ever sees what was written.
            had, self._current = self._current, self._open()
            self._file, self._version = file, None
            self._another = self._another or had is not None
        if self._current is None:
            return
        origin, version = self._current.origin(), self._current.version()
        self._another = self._another or (origin != self._origin and self._version is not None)
        self._origin = origin
        if forced or self._another or version != self._version:
            matcher = self._matcher(self._current)
            book = self._book(self._current) if self._another else None
            with self._lock:  # the book of a change that nobody has taken yet is not lost
                if book is None and self._new is not None:
                    book = self._new.book
                self._new = Change(matcher, book)
            self._version, self._another = version, False
        self._said = ""

    def _miss(self) -> None:
        """Nobody was ever enrolled, or the file is being replaced, or it is gone."""
        self._missing += self._current is not None
        if self._missing == 2:
            self._say(
                f"{escaped(str(self._path))} is gone: the people known so far stay known until it is back, and "
                "what is seen of unknown people is lost"
            )

    def _say(self, line: str) -> None:
        if line != self._said and not self._ending:
            self._said = line
            self._note(line)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands at the path; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
