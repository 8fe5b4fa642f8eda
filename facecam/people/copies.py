"""Which backups the user made of a database, so that what is deleted later goes from them, too."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from facecam.errors import FacecamError
from facecam.people import files
from facecam.people.soundness import check_file

if TYPE_CHECKING:
    from facecam.people.database import Database

#: Entry of the table of small facts: JSON, [[path of the database, path of the backup], ...], both without links.
#: A copy of the database elsewhere must not touch the backups of the original.
_KEY: Final = "backups"
#: The same of those that still hold what was deleted, and wait to be made anew.
_OWED: Final = "owed"


def remember(store: Database, file: Path) -> None:
    """Note a backup."""
    with store.atomic() as db:
        entry = [str(real(store.path)), str(real(file))]
        text = json.dumps([*(e for e in known_backups(store) if e != entry), entry])
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, text))


def refresh(store: Database) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Make the backups anew from the file as it is now.

    One that was moved or deleted is left out; a file that is no such database any more is left alone, and so is
    one whose folder is not there: its disk may come back. What could not be made anew is noted for `make_good`.

    Returns:
        those made anew, and those that still hold what they held.
    """
    return _renew(store, known_backups(store))


def make_good(store: Database) -> tuple[Path, ...]:
    """Make anew what `refresh` could not; those that were."""
    owed = _entries(store, _OWED)
    try:
        return _renew(store, owed)[0] if owed else ()
    except FacecamError:  # it cannot be noted just now: what was made anew is then made anew once more
        return ()


def _renew(store: Database, entries: Sequence[list[str]]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    renewed: list[Path] = []
    stale: list[Path] = []
    for place, name in entries:
        file = Path(name)
        if place != str(real(store.path)):
            continue
        if not reachable(file):
            stale.append(file)
            continue
        for left in files.leftovers(file):  # of a backup that was killed
            left.unlink(missing_ok=True)
        if not file.is_file():
            continue
        try:
            check_file(file, store.kind)
            store.backup_to(file)
            renewed.append(file)
        except FacecamError:  # told to the user by its name
            stale.append(file)
    owed = [[str(real(store.path)), str(file)] for file in stale]
    if owed != _entries(store, _OWED):
        with store.atomic(counted=False) as db:
            db.execute("DELETE FROM meta WHERE key = ?", (_OWED,))
            if owed:
                db.execute("INSERT INTO meta VALUES (?, ?)", (_OWED, json.dumps(owed)))
    return tuple(renewed), tuple(stale)


def known_backups(store: Database) -> list[list[str]]:
    """[path of the database, path of the backup] of each that was noted, once each."""
    return _entries(store, _KEY)


def _entries(store: Database, key: str) -> list[list[str]]:
    text = store.value(key)
    found: list[list[str]] = [] if text is None else json.loads(text)
    pairs = dict.fromkeys((os.path.realpath(place), os.path.realpath(name)) for place, name in found)
    return [list(pair) for pair in pairs]


def reachable(file: Path) -> bool:
    """Whether a backup that is not there was moved or deleted, rather than its disk taken out: its folder is there."""
    return file.parent.is_dir()


def real(path: Path) -> Path:
    """The path without links: a home or a backup may be spelled in several ways, and a link be left in its place."""
    return Path(os.path.realpath(path))
