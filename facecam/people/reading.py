"""Reading samples and vectors out of the gallery, opened where they are sealed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facecam.errors import GalleryDamaged
from facecam.people.records import Record, TemplateSet
from facecam.people.rows import RESTORE, of_crop, of_landmarks, of_negative, of_template, points_of
from facecam.people.sqlite import Connection


def records_of(db: Connection, person: int, crops: bool) -> list[Record]:
    """A person's samples in the order in which they came; see `Gallery.samples`."""
    vectors: dict[int, dict[str, NDArray[np.float32]]] = {}
    for sample, digest, space, blob in db.execute(
        "SELECT sample, digest, space, vector FROM template JOIN sample ON sample.id = sample"
        " WHERE person = ? ORDER BY space",
        (person,),
    ):
        plain = db.seal.open(of_template(digest, space), blob)
        vectors.setdefault(sample, {})[space] = np.frombuffer(plain, "<f4").astype(np.float32)
    return [
        Record(
            digest,
            source,
            quality,
            created,
            vectors.get(id, {}),
            db.seal.open(of_crop(digest), crop),
            max(0, size - db.overhead),
            points_of(db.seal.open(of_landmarks(digest), marks)),
            scheme,
        )
        for id, digest, source, quality, created, crop, size, marks, scheme in db.execute(
            "SELECT sample.id, digest, source, quality, created,"
            f" {'image' if crops else 'NULL'}, coalesce(length(image), 0), landmarks, scheme"
            " FROM sample LEFT JOIN crop ON crop.sample = sample.id WHERE person = ? ORDER BY sample.id",
            (person,),
        )
    ]


def labelled_vectors(db: Connection, space: str) -> tuple[list[tuple[str, bytes]], tuple[tuple[str, str], ...]]:
    """(name, vector) of each sample in the order of names and digests, and (digest, source) of each."""
    rows = db.execute(
        "SELECT name, vector, digest, source FROM template JOIN sample ON sample.id = sample"
        " JOIN person ON person.id = person WHERE space = ? ORDER BY name, digest",
        (space,),
    ).fetchall()
    vectors = [(row[0], db.seal.open(of_template(row[2], space), row[1])) for row in rows]
    return vectors, tuple(row[2:] for row in rows)


def negative_vectors(db: Connection, space: str) -> list[tuple[str, bytes]]:
    """(name, vector) of each picture that is not the person."""
    rows = db.execute(
        "SELECT name, vector, digest FROM negative_template JOIN negative ON negative.id = negative"
        " JOIN person ON person.id = person WHERE space = ? ORDER BY name, digest",
        (space,),
    ).fetchall()
    return [(row[0], db.seal.open(of_negative(row[2], space), row[1])) for row in rows]


def template_set(rows: Sequence[tuple[str, bytes]], shown: str) -> TemplateSet:
    """(name, vector) rows in order of the names, ready for matching.

    Args:
        shown: the gallery's path, for messages.

    Raises:
        GalleryDamaged: a stored vector is not a unit vector of the space's dimension.
    """
    names = tuple(dict.fromkeys(name for name, _ in rows))
    index = {name: i for i, name in enumerate(names)}
    size = len(rows[0][1]) if rows else 0
    if any(len(blob) != size for _, blob in rows):
        raise GalleryDamaged(f"{shown}: vectors of one space differ in length; {RESTORE}")
    vectors = np.frombuffer(b"".join(blob for _, blob in rows), "<f4").astype(np.float32)
    vectors = vectors.reshape(len(rows), size // 4)
    with np.errstate(all="ignore"):
        if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-2):
            raise GalleryDamaged(f"{shown}: a stored vector does not have norm 1; {RESTORE}")
    return TemplateSet(names, np.array([index[name] for name, _ in rows], np.int32), vectors)
