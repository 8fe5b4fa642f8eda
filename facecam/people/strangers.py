"""What a user can do with remembered unknown people: list, merge, name and forget them."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from facecam.errors import PersonNotFound, UsageFault
from facecam.people.cluster import clusters
from facecam.people.database import mark_erase
from facecam.people.gallery import Gallery
from facecam.people.names import clean_name, quoted
from facecam.people.records import Added, Forgotten, Portrait, Record, Unknown
from facecam.people.rows import of_stranger, of_stranger_crop, of_stranger_landmarks, points_of, put
from facecam.people.sightings import add_total, keep_portrait, read_totals, unknown_name
from facecam.people.sqlite import Connection, utc_now

#: Setting of a gallery whose user wants unknown people remembered.
REMEMBER: Final = "remember_unknown"
#: Quality of a sample made of an unknown person of whom no picture was kept.
UNJUDGED: Final = 0.5


@dataclass(frozen=True, slots=True)
class Merging:
    """Unknown people who proved to be one: the number that stays, and those that lead to it from now on."""

    number: int
    merged: tuple[int, ...]


def unknown_number(text: str) -> int:
    """The number in "Unknown 12", "unknown 12" or "12".

    Raises:
        UsageFault: it is none of these.
    """
    found = re.fullmatch(r"\s*(?:unknown\s+)?([0-9]{1,18})\s*", text, re.IGNORECASE)
    if found is None or int(found[1]) == 0:
        raise UsageFault(
            f'an unknown person is called "Unknown 12", not {quoted(text)}; facecam people unknown lists them'
        )
    return int(found[1])


def remembers(gallery: Gallery) -> bool:
    """Whether the user wants unknown people kept in this gallery. Off until turned on."""
    return gallery.setting(REMEMBER) is True


def remember(gallery: Gallery, on: bool) -> None:
    """Turn remembering on or off. Those who are kept already stay until they are forgotten."""
    gallery.set_setting(REMEMBER, True if on else None)


def everyone(gallery: Gallery) -> list[Unknown]:
    """All unknown people that the gallery remembers, by number."""
    with gallery.store.read() as db:
        also: dict[int, list[int]] = {}
        for number, into in db.execute("SELECT id, merged_into FROM stranger WHERE merged_into NOT NULL ORDER BY id"):
            also.setdefault(into, []).append(number)
        spaces: dict[int, list[str]] = {}
        for number, space in db.execute("SELECT stranger, space FROM stranger_template ORDER BY space"):
            spaces.setdefault(number, []).append(space)
        rows = db.execute(
            "SELECT id, first_seen, last_seen, source, seen, coalesce(length(image), 0) FROM stranger"
            " LEFT JOIN stranger_crop ON stranger = id WHERE merged_into IS NULL ORDER BY id"
        ).fetchall()
        overhead = db.overhead
    return [
        Unknown(
            number,
            first,
            last,
            source,
            seen,
            max(0, size - overhead),
            tuple(spaces.get(number, ())),
            tuple(also.get(number, ())),
        )
        for number, first, last, source, seen, size in rows
    ]


def portrait(gallery: Gallery, number: int) -> Portrait | None:
    """The kept picture of an unknown person, None without one."""
    with gallery.store.read() as db:
        return _portrait(db, number)


def _portrait(db: Connection, number: int) -> Portrait | None:
    row = db.execute(
        "SELECT image, quality, landmarks, scheme FROM stranger_crop WHERE stranger = ?", (number,)
    ).fetchone()
    if row is None:
        return None
    image = db.seal.open(of_stranger_crop(number), row[0])
    return Portrait(image, row[1], points_of(db.seal.open(of_stranger_landmarks(number), row[2])), row[3])


def merge(gallery: Gallery, space: str, threshold: float) -> list[Merging]:
    """Make one of unknown people whose sightings resemble each other (`people.cluster`); the lowest number stays.

    Args:
        threshold: mean cosine similarity of the sightings of two people from which they are one.
    """
    gallery.store.unlock()
    with gallery.store.atomic() as db:
        found = read_totals(db, space, gallery)
        numbers = list(found)
        if not numbers:
            return []
        groups = clusters(np.stack([found[n][0] for n in numbers]), np.array([found[n][1] for n in numbers]), threshold)
        done = []
        for group in groups:
            first, *rest = sorted(numbers[i] for i in group)
            if rest:
                for number in rest:
                    _absorb(db, first, number)
                done.append(Merging(first, tuple(rest)))
    return done


def _absorb(db: Connection, first: int, other: int) -> None:
    for space, blob, weight in db.execute(
        "SELECT space, total, weight FROM stranger_template WHERE stranger = ?", (other,)
    ).fetchall():
        total = db.seal.open(of_stranger(other, space), blob)
        add_total(db, first, space, (np.frombuffer(total, "<f4").astype(np.float64), weight))
    picture = _portrait(db, other)
    if picture is not None:
        keep_portrait(db, first, picture)
    db.execute(
        "UPDATE stranger SET (first_seen, last_seen, source, seen) = (SELECT min(stranger.first_seen, o.first_seen),"
        " max(stranger.last_seen, o.last_seen), iif(o.last_seen > stranger.last_seen, o.source, stranger.source),"
        " stranger.seen + o.seen FROM stranger o WHERE o.id = ?2) WHERE id = ?1",
        (first, other),
    )
    db.execute("DELETE FROM stranger_template WHERE stranger = ?", (other,))
    db.execute("DELETE FROM stranger_crop WHERE stranger = ?", (other,))
    db.execute("UPDATE stranger SET merged_into = ? WHERE ?2 IN (id, merged_into)", (first, other))
    db.execute("UPDATE stranger SET seen = 0, source = '' WHERE id = ?", (other,))


def name(gallery: Gallery, number: int, new_name: str) -> Added:
    """Make an unknown person a person, or a sample of a person who is enrolled; the number is no more.

    Raises:
        PersonNotFound: nobody has that number.
        UsageFault: the name cannot be one.
    """
    clean = clean_name(new_name)
    gallery.store.unlock()
    with gallery.store.atomic() as db:
        target = _resolve(db, number)
        vectors = {}
        for space, blob in db.execute(
            "SELECT space, total FROM stranger_template WHERE stranger = ? ORDER BY space", (target,)
        ):
            plain = db.seal.open(of_stranger(target, space), blob)
            total = np.frombuffer(plain, "<f4").astype(np.float64)
            vectors[space] = (total / np.linalg.norm(total)).astype(np.float32)
        picture = _portrait(db, target)
        digest = hashlib.sha256(b"".join(vector.tobytes() for vector in vectors.values())).hexdigest()
        record = Record(
            digest,
            unknown_name(target).lower(),
            UNJUDGED if picture is None else picture.quality,
            utc_now(),
            vectors,
            None if picture is None else picture.image,
            0 if picture is None else len(picture.image),
            None if picture is None else picture.landmarks,
            None if picture is None else picture.scheme,
        )
        added = put(db, clean, [record])
        db.execute("DELETE FROM stranger WHERE id = ?", (target,))
    return added


def forget(gallery: Gallery, numbers: Iterable[int] | None) -> Forgotten:
    """Delete unknown people so that no file of the gallery holds anything of them (`Database.erase`).

    Args:
        numbers: whom, with all numbers that they had; None for everybody.

    Raises:
        PersonNotFound: nobody has one of the numbers; then nobody is deleted.
    """
    with gallery.store.atomic() as db:
        if numbers is None:
            gone = [n for (n,) in db.execute("SELECT id FROM stranger WHERE merged_into IS NULL ORDER BY id")]
        else:
            gone = sorted({_resolve(db, number) for number in numbers})
        for number in gone:
            db.execute("DELETE FROM stranger WHERE id = ?", (number,))
        if gone:
            mark_erase(db)
    if not gone:
        return Forgotten(())
    return _erased(gallery, gone)


def forget_older(gallery: Gallery, seconds: float) -> Forgotten:
    """As `forget`, of everybody whom nobody saw for that long."""
    edge = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))
    with gallery.store.read() as db:
        query = "SELECT id FROM stranger WHERE merged_into IS NULL AND last_seen < ? ORDER BY id"
        if not db.execute(query, (edge,)).fetchall():
            return Forgotten(())
    with gallery.store.atomic() as db:
        gone = [number for (number,) in db.execute(query, (edge,))]
        for number in gone:
            db.execute("DELETE FROM stranger WHERE id = ?", (number,))
        mark_erase(db)
    return _erased(gallery, gone)


def _erased(gallery: Gallery, gone: list[int]) -> Forgotten:
    erased = gallery.store.erase()
    return Forgotten(tuple(gone), erased.backups, erased.problem, erased.renewed, erased.stale)


def resolve(gallery: Gallery, number: int) -> int:
    """The number under which somebody is kept now.

    Raises:
        PersonNotFound: nobody has, or had, that number.
    """
    with gallery.store.read() as db:
        return _resolve(db, number)


def _resolve(db: Connection, number: int) -> int:
    row = db.execute("SELECT coalesce(merged_into, id) FROM stranger WHERE id = ?", (number,)).fetchone()
    if row is not None:
        return int(row[0])
    anybody = db.execute("SELECT 1 FROM stranger LIMIT 1").fetchone() is not None
    on = db.execute("SELECT 1 FROM meta WHERE key = ?", (f"setting.{REMEMBER}",)).fetchone() is not None
    hint = (
        "facecam people unknown lists those who are"
        if anybody
        else "nobody is at present"
        if on
        else "nobody is, until it is turned on (facecam people unknown --remember on)"
    )
    raise PersonNotFound(f"{unknown_name(number)} is not remembered; {hint}")
