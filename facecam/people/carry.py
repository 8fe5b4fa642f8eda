"""Statements that carry a gallery over to another vector space: what lacks a vector there, and what takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facecam.people.database import Erased, mark_erase
from facecam.people.gallery import Gallery
from facecam.people.rows import blob_of, check_size, dimension, of_crop, of_landmarks, of_template, points_of
from facecam.people.sightings import add_total
from facecam.people.sqlite import Connection
from facecam.people.strangers import portrait


@dataclass(frozen=True, slots=True)
class Lack:
    """What has no vector in a space.

    Attributes:
        samples: ids of samples with a crop to embed; strangers: numbers of unknown people with one.
        cropless: person -> how many samples without a crop.
        strangers_cropless: how many unknown people without a crop.
        negatives: how many rejected pictures (no crop is ever kept of them).
    """

    samples: tuple[int, ...]
    strangers: tuple[int, ...]
    cropless: dict[str, int]
    strangers_cropless: int
    negatives: int


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A kept picture: PNG or JPEG bytes, and the landmarks (float32, 5 x 2, its pixels) with their scheme."""

    image: bytes = field(repr=False)
    landmarks: NDArray[np.float32]
    scheme: str


def lacking(gallery: Gallery, space: str) -> Lack:
    """What has no vector in ``space`` yet."""
    without = "NOT EXISTS (SELECT 1 FROM template WHERE template.sample = sample.id AND space = ?)"
    with gallery.store.read() as db:
        rows = db.execute(
            "SELECT sample.id, name, crop.sample IS NOT NULL AND landmarks IS NOT NULL FROM sample"
            f" JOIN person ON person.id = person LEFT JOIN crop ON crop.sample = sample.id WHERE {without}"
            " ORDER BY sample.id",
            (space,),
        ).fetchall()
        unknown = db.execute(
            "SELECT id, landmarks IS NOT NULL FROM stranger LEFT JOIN stranger_crop ON stranger = id"
            " WHERE merged_into IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM stranger_template t WHERE t.stranger = stranger.id AND space = ?) ORDER BY id",
            (space,),
        ).fetchall()
        (negatives,) = db.execute(
            "SELECT count(*) FROM negative WHERE NOT EXISTS"
            " (SELECT 1 FROM negative_template WHERE negative = negative.id AND space = ?)",
            (space,),
        ).fetchone()
    cropless: dict[str, int] = {}
    for _, name, kept in rows:
        if not kept:
            cropless[name] = cropless.get(name, 0) + 1
    return Lack(
        tuple(id for id, _, kept in rows if kept),
        tuple(number for number, kept in unknown if kept),
        cropless,
        sum(not kept for _, kept in unknown),
        int(negatives),
    )


def crop_of(gallery: Gallery, sample: int) -> Crop | None:
    """A sample's kept picture; None when it is gone meanwhile."""
    with gallery.store.read() as db:
        row = db.execute(
            "SELECT digest, image, landmarks, scheme FROM sample JOIN crop ON crop.sample = id WHERE id = ?", (sample,)
        ).fetchone()
        if row is None:
            return None
        digest, image, marks, scheme = row
        points = points_of(db.seal.open(of_landmarks(digest), marks))
        return None if points is None else Crop(db.seal.open(of_crop(digest), image), points, scheme)


def crop_of_stranger(gallery: Gallery, number: int) -> Crop | None:
    """An unknown person's kept picture; None when it is gone meanwhile."""
    found = portrait(gallery, number)
    if found is None or found.landmarks is None or found.scheme is None:
        return None
    return Crop(found.image, found.landmarks, found.scheme)


def add_vectors(gallery: Gallery, space: str, vectors: Sequence[tuple[int, NDArray[np.float32]]]) -> int:
    """Give samples a vector in ``space``, in one change; those that are gone or have one are left out.

    Args:
        vectors: (sample id, float32 unit vector).

    Returns:
        how many were given.
    """
    gallery.store.unlock()
    added = 0
    with gallery.store.atomic() as db:
        for sample, vector in vectors:
            row = db.execute("SELECT digest FROM sample WHERE id = ?", (sample,)).fetchone()
            if row is None:
                continue
            check_size(space, vector, dimension(db, space) or vector.size)
            added += db.execute(
                "INSERT OR IGNORE INTO template (sample, space, vector) VALUES (?, ?, ?)",
                (sample, space, db.seal.close(of_template(row[0], space), blob_of(vector))),
            ).rowcount
    return added


def add_stranger_vector(gallery: Gallery, space: str, number: int, vector: NDArray[np.float32], weight: float) -> bool:
    """Give an unknown person a template in ``space``, unless they have one or are gone."""
    gallery.store.unlock()
    with gallery.store.atomic() as db:
        if not _stays_without(db, space, number):
            return False
        check_size(space, vector, dimension(db, space) or vector.size)
        add_total(db, number, space, (vector.astype(np.float64) * weight, weight))
    return True


def _stays_without(db: Connection, space: str, number: int) -> bool:
    row = db.execute(
        "SELECT 1 FROM stranger WHERE id = ?1 AND merged_into IS NULL AND NOT EXISTS"
        " (SELECT 1 FROM stranger_template WHERE stranger = ?1 AND space = ?2)",
        (number, space),
    ).fetchone()
    return row is not None


def drop_others(gallery: Gallery, space: str) -> tuple[int, Erased]:
    """Delete the vectors of other spaces of everything that has one in ``space``; how many, and what was erased."""
    gone = 0
    with gallery.store.atomic() as db:
        for table, owner in (
            ("template", "sample"),
            ("negative_template", "negative"),
            ("stranger_template", "stranger"),
        ):
            gone += db.execute(
                f"DELETE FROM {table} WHERE space <> ?1 AND {owner} IN (SELECT {owner} FROM {table} WHERE space = ?1)",
                (space,),
            ).rowcount
        if gone:
            mark_erase(db)
    return gone, gallery.store.erase() if gone else Erased(())
