"""Copies of the gallery: the user's backups, the last good one that facecam keeps by itself, and the way back."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facecam.errors import GalleryDamaged, OutputError, SourceError, UsageFault
from facecam.people import copies, files
from facecam.people.database import Database, erase_within, overwrite
from facecam.people.gallery import Gallery
from facecam.people.names import escaped
from facecam.people.soundness import checked_copy
from facecam.people.sqlite import translated, utc_now
from facecam.people.store import GALLERY, open_gallery_file

#: A gallery that is not in use: advice about the one in use would mislead.
_BACKUP: Final = dataclasses.replace(GALLERY, remedy=lambda path: "name a file that facecam people backup wrote")


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy: where, what it holds, and whether the gallery remembers it."""

    path: Path
    people: int
    samples: int
    bytes: int
    remembered: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What restoring did.

    Attributes:
        source: the backup that was taken; people, samples: what it holds.
        aside: where the gallery that was there before is kept, None if there was none.
        damaged: that one was damaged.
    """

    source: Path
    people: int
    samples: int
    aside: Path | None
    damaged: bool


def back_up(gallery: Gallery, file: Path, *, replace: bool = False) -> Copied:
    """Copy the gallery as of this moment to ``file``, while others may use it; an encrypted one stays encrypted.

    The gallery remembers where, so that whoever is removed later can be removed there, too; not one that cannot be
    written.

    Raises:
        UsageFault: ``file`` is the gallery itself.
        OutputError: it exists (without ``replace``) or cannot be written.
    """
    shown = escaped(str(file.absolute()))
    if os.path.realpath(file) == os.path.realpath(gallery.path):
        raise UsageFault(f"{shown}: is the gallery itself; name another file")
    if not replace and os.path.lexists(file):
        raise OutputError(f"{shown}: exists already; use --overwrite or name another file")
    if os.path.lexists(file) and not file.is_file():
        raise OutputError(f"{shown}: is not a regular file; name a file to write")
    file = copies.real(file)  # a link stays one
    if not copies.reachable(file):  # remembered, it would look like one whose disk was taken out, at every removal
        raise OutputError(f"{shown}: cannot be written: the folder does not exist; make it first")
    writable = gallery.store.obstacle is None
    if writable:
        copies.remember(gallery.store, file)
    gallery.store.backup_to(file)
    people, samples = _counted(gallery.store)
    return Copied(file, people, samples, file.stat().st_size, writable)


def keep_last_good(gallery: Gallery) -> Path | None:
    """After a change: copy the gallery beside itself, as what can be brought back when it is found damaged.

    Not while a deletion's traces wait to be erased: the copy would hold them.

    Raises:
        OutputError: it cannot be written; the earlier copy stays.
    """
    if gallery.store.obstacle is not None or gallery.store.value("erase"):
        return None
    path = files.last_good(gallery.path)
    gallery.store.backup_to(path)
    return path


def restore(path: Path, file: Path | None = None) -> Restored:
    """Put a backup in the gallery's place, after it was checked; the present one is kept aside.

    Other processes that use the gallery see the change, unless the present one is damaged.

    Args:
        path: the gallery's file, there or not.
        file: the backup; by default the last good copy that facecam keeps.

    Raises:
        SourceError: there is no backup.
        GalleryDamaged, GalleryError: the backup is no whole gallery, or of a newer facecam.
        OutputError: the home cannot be written.
    """
    files.check_link(path, GALLERY.noun, GALLERY.error)
    path = copies.real(path)
    source = file.absolute() if file is not None else newest(path)
    if not source.is_file():
        raise SourceError(f"{escaped(str(source))}: no such file; name a file of facecam people backup")
    if os.path.realpath(source) == os.path.realpath(path):
        raise UsageFault(f"{escaped(str(source))}: is the gallery itself; name a backup of it")
    with translated(path, GALLERY, files_too=True):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with translated(path, GALLERY, files_too=True), files.draft(path) as made:
        checked_copy(source, made, _BACKUP)
        with translated(source, _BACKUP, files_too=True):
            erase_within(made)
        known: list[list[str]] = []
        try:
            present = open_gallery_file(path, create=False) if os.path.lexists(path) else None
        except GalleryDamaged:
            aside: Path | None = _set_aside(path)
            damaged = True
            files.put_in_place(made, path)
        else:
            aside, damaged = None, False
            if present is None:
                files.put_in_place(made, path)
            else:
                aside = _free(path)
                try:
                    if present.obstacle is not None:
                        raise OutputError(present.obstacle)
                    known = copies.known_backups(present)
                    present.backup_to(aside)
                    overwrite(present, made)
                finally:
                    present.close()
    store = open_gallery_file(path, create=False)
    try:
        # Backups that the restored one does not know of hold people all the same, and so does the one it came from.
        for copy in [Path(name) for place, name in known if place == str(path)] + ([source] if file else []):
            copies.remember(store, copy)
        people, samples = _counted(store)
    finally:
        store.close()
    return Restored(source, people, samples, aside, damaged)


def newest(path: Path) -> Path:
    """The copy that facecam keeps by itself and that is best to go back to.

    Raises:
        SourceError: there is none. GalleryError: the gallery is a link that leads nowhere.
    """
    files.check_link(path, GALLERY.noun, GALLERY.error)
    path = copies.real(path)
    found = files.backups(path)
    if not found:
        raise SourceError(
            f"{escaped(str(path.parent))}: facecam keeps no copy of the gallery here; name a file of "
            "facecam people backup"
        )
    return found[-1]


def _free(path: Path) -> Path:
    """A name for the gallery that is kept aside."""
    stamp = utc_now().replace("-", "").replace(":", "")
    for number in range(1000):
        name = files.aside_name(path, stamp if not number else f"{stamp}-{number}")
        if not os.path.lexists(name):
            return name
    raise OutputError(f"{escaped(str(path))}: there are a thousand galleries kept aside; delete some")


def _set_aside(path: Path) -> Path:
    """Move a damaged gallery with its log; a kill in between leaves the damaged one in both places."""
    aside = _free(path)
    try:
        files.move_aside(path, aside)
    except OSError as error:
        raise OutputError(
            f"{escaped(str(aside))}: cannot be written ({error.strerror}); nothing was changed"
        ) from error
    return aside


def _counted(store: Database) -> tuple[int, int]:
    with store.read() as db:
        people, samples = db.execute("SELECT (SELECT count(*) FROM person), (SELECT count(*) FROM sample)").fetchone()
    return int(people), int(samples)
