"""Statements on negatives: pictures of which the user said "this is not NAME"."""

from __future__ import annotations

from collections.abc import Sequence

from facecam.errors import UsageFault
from facecam.people.names import escaped, quoted
from facecam.people.records import Negative, Record, Rejected
from facecam.people.rows import blob_of, check_size, dimension, of_negative, person_id
from facecam.people.sqlite import Connection


def put_negatives(db: Connection, name: str, records: Sequence[Record]) -> Rejected:
    """Write negatives of a person within a transaction of `Database.atomic`; see `Gallery.reject`."""
    if not records or not all(record.digest and record.vectors for record in records):
        raise ValueError("negatives are added with a digest and a vector each, and at least one")
    person = person_id(db, name)
    (stored,) = db.execute("SELECT name FROM person WHERE id = ?", (person,)).fetchone()
    added, duplicates = 0, []
    for record in records:
        source = escaped(record.source)
        key = (person, record.digest)
        if db.execute("SELECT 1 FROM sample WHERE person = ? AND digest = ?", key).fetchone() is not None:
            raise UsageFault(
                f"{source}: {quoted(stored)} is enrolled from this very picture, so it cannot be rejected, too; if it "
                "shows somebody else, remove the person and enrol them again without it"
            )
        db.execute(
            "INSERT OR IGNORE INTO negative (person, digest, source, created) VALUES (?, ?, ?, ?)",
            (*key, source, record.created),
        )
        (negative,) = db.execute("SELECT id FROM negative WHERE person = ? AND digest = ?", key).fetchone()
        fresh = 0
        for space, vector in record.vectors.items():
            check_size(space, vector, dimension(db, space) or vector.size)
            fresh += db.execute(
                "INSERT OR IGNORE INTO negative_template (negative, space, vector) VALUES (?, ?, ?)",
                (negative, space, db.seal.close(of_negative(record.digest, space), blob_of(vector))),
            ).rowcount
        if fresh:
            added += 1
        else:
            duplicates.append(source)
    return Rejected(stored, added, tuple(duplicates))


def negatives_of(db: Connection, person: int) -> list[Negative]:
    """A person's negatives in the order in which they came."""
    rows = db.execute(
        "SELECT digest, source, created, group_concat(space, char(10)) FROM negative"
        " LEFT JOIN negative_template ON negative = negative.id WHERE person = ? GROUP BY negative.id"
        " ORDER BY negative.id",
        (person,),
    )
    return [
        Negative(digest, source, created, tuple(sorted((spaces or "").splitlines())))
        for digest, source, created, spaces in rows.fetchall()
    ]


def move_negatives(db: Connection, old: int, new: int) -> None:
    """Give one person's negatives to another, less those that show the other as enrolled."""
    db.execute("UPDATE OR IGNORE negative SET person = ? WHERE person = ?", (new, old))
    db.execute(
        "DELETE FROM negative WHERE person = ?1 AND digest IN (SELECT digest FROM sample WHERE person = ?1)", (new,)
    )
