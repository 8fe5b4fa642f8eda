"""Which backups the user made of a database, so that what is deleted later goes from them, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from facecam.errors import FacecamError
from facecam.people import files
from facecam.people.soundness import check_file

if TYPE_CHECKING:
    from facecam.people.database import Database

#: Entry of the table of small facts: JSON, [[path of the database, path of the backup], ...]. A copy of the
#: database elsewhere must not touch the backups of the original.
_KEY: Final = "backups"


def remember(store: Database, file: Path) -> None:
    """Note a backup."""
    with store.atomic() as db:
        known = known_backups(store)
        entry = [str(store.path), str(file)]
        text = json.dumps([*(e for e in known if e != entry), entry])
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, text))


def refresh(store: Database) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Make the backups anew from the file as it is now.

    One that was moved or deleted is left out; a file that is no such database any more is left alone.

    Returns:
        those made anew, and those that still hold what they held.
    """
    renewed: list[Path] = []
    stale: list[Path] = []
    for place, name in known_backups(store):
        file = Path(name)
        if place != str(store.path):
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
    return tuple(renewed), tuple(stale)


def known_backups(store: Database) -> list[list[str]]:
    """[path of the database, path of the backup] of each that was noted."""
    text = store.value(_KEY)
    found: list[list[str]] = [] if text is None else json.loads(text)
    return found
