"""Encrypting a gallery that was not, changing its passphrase, and back: all values in one change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from facecam.errors import UsageFault
from facecam.people import rows
from facecam.people.database import Erased, mark_erase
from facecam.people.gallery import Gallery
from facecam.people.seal import PLAIN, Seal, make
from facecam.people.sqlite import Connection


class _Column(NamedTuple):
    """A column of private values: its table, key and name, what identifies a value, and from which join that comes."""

    table: str
    key: str
    value: str
    names: str
    join: str
    identity: Callable[..., str]


_COLUMNS: Final = (
    _Column(
        "template", "id", "vector", "digest, space", "JOIN sample ON sample.id = template.sample", rows.of_template
    ),
    _Column(
        "negative_template",
        "id",
        "vector",
        "digest, space",
        "JOIN negative ON negative.id = negative_template.negative",
        rows.of_negative,
    ),
    _Column("stranger_template", "id", "total", "stranger, space", "", rows.of_stranger),
    _Column("sample", "id", "landmarks", "digest", "", rows.of_landmarks),
    _Column("crop", "sample", "image", "digest", "JOIN sample ON sample.id = crop.sample", rows.of_crop),
    _Column("stranger_crop", "stranger", "image", "stranger", "", rows.of_stranger_crop),
    _Column("stranger_crop", "stranger", "landmarks", "stranger", "", rows.of_stranger_landmarks),
)


@dataclass(frozen=True, slots=True)
class Resealed:
    """What changing the encryption did.

    Attributes:
        values: how many vectors, landmarks and pictures were rewritten.
        erased: which copies went or were made anew, and why traces of the earlier state may be left.
    """

    values: int
    erased: Erased


def encrypted(gallery: Gallery) -> bool:
    """Whether a passphrase protects the gallery."""
    return gallery.store.value("seal") is not None


def reseal(gallery: Gallery, passphrase: str | None) -> Resealed:
    """Put all private values under ``passphrase``, or, with None, leave them plain.

    One change: all of them or, after any exception, none. Then the files are rewritten so that nothing of the
    earlier state stays in them, and the backups that facecam knows are made anew.

    Raises:
        UsageFault: the passphrase cannot be one, or the gallery is in that state already.
        GalleryLocked: the present passphrase is missing or wrong. DependencyMissing: no cryptography.
        OutputError: the gallery cannot be written.
    """
    if passphrase is None and not encrypted(gallery):
        raise UsageFault("the gallery is not encrypted")
    gallery.store.unlock()
    new = PLAIN if passphrase is None else make(passphrase)
    with gallery.store.atomic() as db:
        values = _rewrite(db, new)
        if new.mark is None:
            db.execute("DELETE FROM meta WHERE key = 'seal'")
        else:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('seal', ?)", (new.mark,))
        mark_erase(db)
    erased = gallery.store.erase()
    return Resealed(values, erased)


def _rewrite(db: Connection, new: Seal) -> int:
    """Open all private values and seal them anew; how many there were."""
    old, count = db.seal, 0
    for table, key, column, names, join, identity in _COLUMNS:
        keys = db.execute(f"SELECT {key} FROM {table} WHERE {column} NOT NULL").fetchall()
        for (row,) in keys:
            *words, value = db.execute(
                f"SELECT {names}, {column} FROM {table} {join} WHERE {table}.{key} = ?", (row,)
            ).fetchone()
            text = identity(*words)
            db.execute(
                f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (new.close(text, old.open(text, value)), row)
            )
            count += 1
    return count
