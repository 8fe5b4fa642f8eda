"""The gallery's file: what makes it a gallery among the databases of `people.database`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from facecam.errors import GalleryDamaged, GalleryError
from facecam.people import files
from facecam.people.database import Database, open_database
from facecam.people.names import escaped
from facecam.people.schema import MIGRATIONS
from facecam.people.sqlite import Kind


def _remedy(path: Path) -> str:
    copies = files.backups(path)
    if copies:
        name, made = escaped(copies[-1].name), files.written(copies[-1])
        return f"facecam people restore brings back {name} of {made} and keeps this one aside"
    return (
        "facecam people restore FILE puts a backup in its place and keeps it aside; without one move it away and "
        "enrol again (facecam people import takes an earlier export)"
    )


GALLERY: Final = Kind(
    noun="gallery",
    application_id=0x6663616D,  # "fcam"
    migrations=MIGRATIONS,
    absent="there is no gallery yet; enrol somebody",
    remedy=_remedy,
    error=GalleryError,
    damaged=GalleryDamaged,
    place="name another home by FACECAM_HOME",
)


def open_gallery_file(path: Path, *, create: bool = True, ask: Callable[[], str] | None = None) -> Database:
    """As `database.open_database`, for a gallery: GalleryDamaged, GalleryError or OutputError."""
    return open_database(path, GALLERY, create=create, ask=ask)
