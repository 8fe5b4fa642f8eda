"""Statements on unknown people that a run needs: their templates, a new number, a sighting more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facecam.errors import GalleryDamaged
from facecam.people.gallery import Gallery
from facecam.people.names import escaped
from facecam.people.records import Portrait
from facecam.people.rows import (
    RESTORE,
    blob_of,
    check_size,
    dimension,
    of_stranger,
    of_stranger_crop,
    of_stranger_landmarks,
)
from facecam.people.sqlite import Connection, utc_now

#: A weighted sum of unit vectors (float64, D), and the sum of the weights.
Total = tuple[NDArray[np.float64], float]


def unknown_name(number: int) -> str:
    """ "Unknown 12"."""
    return f"Unknown {number}"


def totals(gallery: Gallery, space: str, after: int = 0) -> dict[int, Total]:
    """The templates of ``space``, by number, of those whose number is higher than ``after``.

    Raises:
        GalleryDamaged: one cannot be a weighted sum of unit vectors.
    """
    with gallery.store.read() as db:
        return read_totals(db, space, gallery, after)


def read_totals(db: Connection, space: str, gallery: Gallery, after: int = 0) -> dict[int, Total]:
    found: dict[int, Total] = {}
    size: int | None = None
    for number, blob, weight in db.execute(
        "SELECT stranger, total, weight FROM stranger_template WHERE space = ? AND stranger > ? ORDER BY stranger",
        (space, after),
    ):
        total = np.frombuffer(db.seal.open(of_stranger(number, space), blob), "<f4").astype(np.float64)
        size = total.size if size is None else size
        with np.errstate(all="ignore"):
            norm = float(np.linalg.norm(total))
        if total.size != size or not 0 < norm <= 1.01 * weight:
            raise GalleryDamaged(
                f"{escaped(str(gallery.path))}: the template of {unknown_name(number)} is wrong; {RESTORE}"
            )
        found[number] = total, weight
    return found


def highest(gallery: Gallery) -> int:
    """The highest number that an unknown person ever had in this gallery."""
    with gallery.store.read() as db:
        return _highest(db)


def _highest(db: Connection) -> int:
    query = (
        "SELECT max(coalesce((SELECT value FROM meta WHERE key = 'strangers'), 0), coalesce(max(id), 0)) FROM stranger"
    )
    return int(db.execute(query).fetchone()[0])


def reserve(gallery: Gallery, above: int = 0) -> int:
    """A number that nobody had before and nobody else will get, higher than ``above``."""
    with gallery.store.atomic(counted=False) as db:
        number = max(_highest(db), above) + 1
        db.execute("INSERT OR REPLACE INTO meta VALUES ('strangers', ?)", (number,))
    return number


def write(
    gallery: Gallery,
    number: int,
    space: str,
    share: Total,
    *,
    new: bool,
    source: str = "",
    picture: Portrait | None = None,
) -> int | None:
    """Add a sighting to an unknown person.

    Args:
        share: the sighting's weighted vector and its weight.
        new: nobody was stored under the number yet.
        picture: kept if it is better than the one that is there.

    Returns:
        the number that it was added to (another one after a merge), None when they were named or
        forgotten meanwhile: then nothing is written.
    """
    now, vector = utc_now(), share[0]
    with gallery.store.atomic(counted=False) as db:
        if new:
            db.execute(
                "INSERT INTO stranger (id, first_seen, last_seen, source, seen) VALUES (?, ?, ?, '', 0)",
                (number, now, now),
            )
        row = db.execute("SELECT coalesce(merged_into, id) FROM stranger WHERE id = ?", (number,)).fetchone()
        if row is None:
            return None
        target = int(row[0])
        db.execute(
            "UPDATE stranger SET last_seen = max(last_seen, ?), source = ?, seen = seen + 1 WHERE id = ?",
            (now, escaped(source), target),
        )
        check_size(space, vector, dimension(db, space) or vector.size)
        add_total(db, target, space, share)
        if picture is not None:
            keep_portrait(db, target, picture)
    return target


def add_total(db: Connection, number: int, space: str, share: Total) -> None:
    row = db.execute(
        "SELECT total, weight FROM stranger_template WHERE stranger = ? AND space = ?", (number, space)
    ).fetchone()
    total, weight = share
    identity = of_stranger(number, space)
    if row is not None:
        known = db.seal.open(identity, row[0])
        total, weight = total + np.frombuffer(known, "<f4").astype(np.float64), weight + row[1]
    db.execute(
        "INSERT INTO stranger_template (stranger, space, total, weight) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (stranger, space) DO UPDATE SET total = ?3, weight = ?4",
        (number, space, db.seal.close(identity, blob_of(total)), float(weight)),
    )


def keep_portrait(db: Connection, number: int, picture: Portrait) -> None:
    db.execute(
        "INSERT INTO stranger_crop VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (stranger) DO UPDATE"
        " SET image = ?2, quality = ?3, landmarks = ?4, scheme = ?5 WHERE quality < ?3",
        (
            number,
            db.seal.close(of_stranger_crop(number), picture.image),
            float(picture.quality),
            db.seal.close(of_stranger_landmarks(number), blob_of(picture.landmarks)),
            picture.scheme,
        ),
    )
