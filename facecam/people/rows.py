"""The gallery's statements that several of its operations share, each within a transaction of the store."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.errors import PersonNotFound
from facecam.people.names import escaped, lookup_name, quoted
from facecam.people.records import Added, Consent, Person, Record
from facecam.people.sqlite import Connection, utc_now

RESTORE: Final = "facecam people restore brings an earlier copy of the gallery back, or enrol again"


def put(db: Connection, name: str, records: Sequence[Record]) -> Added:
    """Write records to a person within a transaction of `Database.atomic`; see `Gallery.add`.

    Args:
        name: as `clean_name` gives it.
        records: each with at least one vector.
    """
    if not records or not all(record.digest and record.vectors for record in records):
        raise ValueError("samples are added with a digest and a vector each, and at least one")
    now = utc_now()
    made = db.execute(
        "INSERT OR IGNORE INTO person (name, created, updated) VALUES (?, ?, ?)", (name, now, now)
    ).rowcount
    person = person_id(db, name)
    sizes: dict[str, int] = {}
    added, duplicates, elsewhere = 0, [], []
    for record in records:
        source = escaped(record.source)
        sample, had = _known(db, person, record.digest)
        fresh = {space: vector for space, vector in record.vectors.items() if space not in had}
        if sample is not None and not fresh:
            duplicates.append(source)
            continue
        if sample is None:
            others = db.execute(
                "SELECT name FROM person JOIN sample ON person.id = person WHERE digest = ? ORDER BY name",
                (record.digest,),
            )
            elsewhere += [(source, other) for (other,) in others]
            sample = _insert(db, person, record, source)
            # Whoever enrols what they had once rejected has changed their mind.
            db.execute("DELETE FROM negative WHERE person = ? AND digest = ?", (person, record.digest))
        for space, vector in fresh.items():
            if space not in sizes:
                sizes[space] = dimension(db, space) or vector.size
            check_size(space, vector, sizes[space])
            db.execute(
                "INSERT INTO template (sample, space, vector) VALUES (?, ?, ?)",
                (sample, space, db.seal.close(of_template(record.digest, space), blob_of(vector))),
            )
        if record.crop is not None:
            _keep_crop(db, sample, record)
        added += 1
    if added:
        db.execute("UPDATE person SET updated = ? WHERE id = ?", (now, person))
    return Added(name, bool(made), added, tuple(duplicates), tuple(elsewhere))


def _known(db: Connection, person: int, digest: str) -> tuple[int | None, set[str]]:
    """The person's sample of that content, and the spaces that it has a vector in."""
    row = db.execute("SELECT id FROM sample WHERE person = ? AND digest = ?", (person, digest)).fetchone()
    if row is None:
        return None, set()
    return row[0], {s for (s,) in db.execute("SELECT space FROM template WHERE sample = ?", row)}


def _insert(db: Connection, person: int, record: Record, source: str) -> int:
    cursor = db.execute(
        "INSERT INTO sample (person, digest, source, quality, landmarks, scheme, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            person,
            record.digest,
            source,
            record.quality,
            db.seal.close(of_landmarks(record.digest), blob_of(record.landmarks)),
            record.scheme,
            record.created,
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _keep_crop(db: Connection, sample: int, record: Record) -> None:
    """Store the crop unless the sample has one; landmarks are pixels of the crop, so they come along."""
    picture = db.seal.close(of_crop(record.digest), record.crop)
    if db.execute("INSERT OR IGNORE INTO crop VALUES (?, ?)", (sample, picture)).rowcount:
        marks = db.seal.close(of_landmarks(record.digest), blob_of(record.landmarks))
        db.execute("UPDATE sample SET landmarks = ?, scheme = ? WHERE id = ?", (marks, record.scheme, sample))


# What each private value is, for its seal. Samples are named by their content, not by their row: a merge moves
# values between two samples of the same picture.


def of_template(digest: str, space: str) -> str:
    return f"template {space} {digest}"


def of_landmarks(digest: str) -> str:
    return f"landmarks {digest}"


def of_crop(digest: str) -> str:
    return f"crop {digest}"


def of_negative(digest: str, space: str) -> str:
    return f"negative {space} {digest}"


def of_stranger(number: int, space: str) -> str:
    return f"stranger {space} {number}"


def of_stranger_crop(number: int) -> str:
    return f"stranger's crop {number}"


def of_stranger_landmarks(number: int) -> str:
    return f"stranger's landmarks {number}"


def blob_of(values: NDArray[np.floating] | None) -> bytes | None:
    """A vector, or five points, as they are stored."""
    return None if values is None else np.ascontiguousarray(values, "<f4").tobytes()


def lend_crop(db: Connection, theirs: int, kept: int) -> None:
    """Give a sample without a crop the one of its twin, with the landmarks that are pixels of it."""
    if db.execute("UPDATE OR IGNORE crop SET sample = ? WHERE sample = ?", (kept, theirs)).rowcount:
        db.execute(
            "UPDATE sample SET (landmarks, scheme) = (SELECT landmarks, scheme FROM sample WHERE id = ?) WHERE id = ?",
            (theirs, kept),
        )


def dimension(db: Connection, space: str) -> int | None:
    """How many values the space's vectors have in this gallery, None when there is none."""
    row = db.execute(
        "SELECT size FROM (SELECT length(vector) AS size FROM template WHERE space = ?1 LIMIT 1)"
        " UNION ALL SELECT size FROM"
        " (SELECT length(vector) AS size FROM negative_template WHERE space = ?1 LIMIT 1)"
        " UNION ALL SELECT size FROM"
        " (SELECT length(total) AS size FROM stranger_template WHERE space = ?1 LIMIT 1)",
        (space,),
    ).fetchone()
    return None if row is None else (int(row[0]) - db.overhead) // 4


def check_size(space: str, vector: NDArray[np.floating], size: int) -> None:
    """Raise ValueError for a vector that cannot be of the space."""
    if vector.size != size:
        raise ValueError(f"vectors of space {space!r} have {size} values in this gallery, not {vector.size}")


def people_of(db: Connection, only: int | None = None) -> list[Person]:
    """Everybody, or the person of one id."""
    spaces: dict[int, list[str]] = {}
    for person, space in db.execute(
        "SELECT DISTINCT person, space FROM template JOIN sample ON sample.id = sample"
        " WHERE ?1 IS NULL OR person = ?1 ORDER BY space",
        (only,),
    ):
        spaces.setdefault(person, []).append(space)
    rows = db.execute(
        "SELECT id, name, created, updated, (SELECT count(*) FROM sample WHERE person = p.id),"
        " (SELECT count(*) FROM crop JOIN sample ON sample.id = crop.sample WHERE person = p.id), consent, consented"
        " FROM person p WHERE ?1 IS NULL OR id = ?1",
        (only,),
    ).fetchall()
    return [
        Person(
            id,
            name,
            created,
            updated,
            samples,
            crops,
            tuple(spaces.get(id, ())),
            None if note is None else Consent(note, date),
        )
        for id, name, created, updated, samples, crops, note, date in rows
    ]


def person_id(db: Connection, name: str) -> int:
    """The person's id.

    Raises:
        PersonNotFound: nobody has that name; the message names the similar ones.
    """
    asked = lookup_name(name)
    row = db.execute("SELECT id FROM person WHERE name = ?", (askable(asked),)).fetchone()
    if row is not None:
        return int(row[0])
    names = [n for (n,) in db.execute("SELECT name FROM person ORDER BY name")]
    if not names:
        raise PersonNotFound(
            f"there is no person called {quoted(asked)}: nobody is enrolled yet (facecam enroll --name NAME PHOTOS)"
        )
    folded = {n.casefold(): n for n in names}
    part = asked.casefold()[:200]
    alike = [f for f in folded if len(part) > 1 and part in f][:3] or difflib.get_close_matches(part, folded, n=3)
    close = [folded[f] for f in alike]
    hint = f"; did you mean {' or '.join(map(quoted, close))}?" if close else "; facecam people lists everybody"
    raise PersonNotFound(f"there is no person called {quoted(asked)}{hint}")


def put_consent(db: Connection, person: int, consent: Consent | None) -> None:
    db.execute(
        "UPDATE person SET consent = ?, consented = ?, updated = ? WHERE id = ?",
        (consent and consent.note, consent and consent.date, utc_now(), person),
    )


def askable(name: str) -> str | None:
    """A name as SQLite can be asked for it: lone surrogates (of a badly encoded argument) match nobody."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return name


def points_of(blob: bytes | None) -> NDArray[np.float32] | None:
    return None if blob is None else np.frombuffer(blob, "<f4").astype(np.float32).reshape(5, 2)
