"""Export and import of people: one JSON file, ``facecam.gallery/2``. What comes in is not trusted.

::

    {"schema": "facecam.gallery/2", "created": "2026-01-31T12:00:00Z", "people": [
      {"name": "Ada", "consent": {"note": "signed form 7", "date": "2026-01-30"}, "samples": [
        {"digest": "9f...", "source": "ada.jpg", "quality": 0.8, "created": "2026-01-30T09:00:00Z",
         "scheme": "dlib5", "landmarks": [[x, y], ... five of them, pixels of the crop],
         "crop": "base64 of PNG or JPEG", "vectors": {"space": "base64 of float32, little-endian"}}]}]}

Without a crop ``scheme``, ``landmarks`` and ``crop`` are null, and so is ``consent``
where nothing was noted. The file is ASCII.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from facecam.errors import GalleryError, PersonNotFound, UsageFault
from facecam.people.gallery import Gallery
from facecam.people.incoming import SCHEMAS, SIZE_MAX, Newcomer, read_people
from facecam.people.names import NAME_MAX, clean_name, escaped, quoted
from facecam.people.records import Added, Record
from facecam.people.rows import dimension, people_of, person_id, put, put_consent
from facecam.people.sqlite import Connection, utc_now
from facecam.video.atomic import atomic_text

#: What to do with a person whose name is in the gallery already.
CONFLICTS: Final = ("skip", "merge", "rename")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    people: int
    samples: int
    crops: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        added: one entry per person who came in, under the name they have now.
        skipped: people who were left out since their name was there already.
        renamed: (name in the file, name in the gallery).
    """

    added: tuple[Added, ...]
    skipped: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]


def export_people(
    gallery: Gallery,
    names: Sequence[str] | None,
    file: Path,
    include_crops: bool = True,
    *,
    overwrite: bool = False,
) -> Exported:
    """Write people to ``file`` (mode 0600, appears complete or not at all).

    Args:
        names: whom; None for everybody.
        include_crops: also the pictures that another model could be fed from.
        overwrite: replace an existing file.

    Raises:
        PersonNotFound: one of the names, or nobody is enrolled.
        OutputError: the file exists or cannot be written.
    """
    if names is None:
        chosen = [person.name for person in gallery.people()]
    else:
        chosen = list(dict.fromkeys(gallery.person(name).name for name in names))
    if not chosen:
        raise PersonNotFound("nobody is enrolled yet, so there is nobody to export (facecam enroll)")
    if os.path.realpath(file) == os.path.realpath(gallery.path):
        raise UsageFault(f"{escaped(str(file))}: is the gallery itself; name another file")
    people = samples = crops = 0
    with atomic_text(file, overwrite=overwrite) as out:
        out.write(f'{{"schema": "{SCHEMAS[-1]}", "created": "{utc_now()}", "people": [')
        for name in chosen:
            records = gallery.samples(name, crops=include_crops)
            lines = ",\n".join(_json(_entry(record)) for record in records)
            comma = "," if people else ""
            consent = gallery.person(name).consent
            agreed = None if consent is None else {"note": consent.note, "date": consent.date}
            out.write(f'{comma}\n{{"name": {_json(name)}, "consent": {_json(agreed)}, "samples": [\n{lines}]}}')
            people += 1
            samples += len(records)
            crops += sum(record.crop is not None for record in records)
        out.write("\n]}\n")
    return Exported(people, samples, crops)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _entry(record: Record) -> dict[str, Any]:
    crop = record.crop
    marks = None if crop is None or record.landmarks is None else record.landmarks
    return {
        "digest": record.digest,
        "source": record.source,
        "quality": record.quality,
        "created": record.created,
        "scheme": None if marks is None else record.scheme,
        "landmarks": None if marks is None else [[round(float(v), 3) for v in point] for point in marks],
        "crop": None if crop is None else base64.b64encode(crop).decode(),
        "vectors": {
            space: base64.b64encode(vector.astype("<f4").tobytes()).decode() for space, vector in record.vectors.items()
        },
    }


def import_people(gallery: Gallery, file: Path, on_conflict: str = "skip", *, size_max: int = SIZE_MAX) -> Imported:
    """Take in people from a file of `export_people`: everybody in it, or on any fault nobody.

    Args:
        on_conflict: see `take_in`.
        size_max: bytes.

    Raises:
        UsageFault: the file cannot be read, or holds a name that cannot be one.
        GalleryError: not such a file, too large, or wrong in any field.
        OutputError: the gallery cannot be written.
    """
    return take_in(gallery, read_people(file, size_max), on_conflict)


def take_in(gallery: Gallery, people: Sequence[Newcomer], on_conflict: str = "skip") -> Imported:
    """Add people as `read_people` gives them, in one transaction.

    Args:
        on_conflict: what to do with a name that is there already: "skip" leaves the person of
            the gallery as they are, "merge" adds the samples to them, "rename" makes a new
            person "NAME (2)".

    Raises:
        GalleryError: vectors of another dimension than their space has.
        OutputError: the gallery cannot be written.
    """
    if on_conflict not in CONFLICTS:
        raise ValueError(f"on_conflict is one of {CONFLICTS}, not {on_conflict!r}")
    added: list[Added] = []
    skipped: list[str] = []
    renamed: list[tuple[str, str]] = []
    gallery.store.unlock()
    with gallery.store.atomic() as db:
        _check_dimensions(db, people)
        taken = {person.name for person in people_of(db)}
        reserved = taken | {newcomer.name for newcomer in people}
        for name, records, consent in people:
            final = name
            if name in taken and on_conflict == "skip":
                skipped.append(name)
                continue
            if name in taken and on_conflict == "rename":
                final = _free(name, reserved)
                reserved.add(final)
                renamed.append((name, final))
            added.append(put(db, final, records))
            person = person_id(db, final)
            if consent is not None and people_of(db, person)[0].consent is None:
                put_consent(db, person, consent)
    return Imported(tuple(added), tuple(skipped), tuple(renamed))


def _free(name: str, taken: set[str]) -> str:
    """The first of "NAME (2)", "NAME (3)", ... that nobody has."""
    number = 2
    while True:
        ending = f" ({number})"
        candidate = clean_name(name[: NAME_MAX - len(ending)].rstrip() + ending)
        if candidate not in taken:
            return candidate
        number += 1


def _check_dimensions(db: Connection, people: Sequence[Newcomer]) -> None:
    sizes: dict[str, int] = {}
    for name, records, _ in people:
        for space, vector in ((s, v) for record in records for s, v in record.vectors.items()):
            if space not in sizes:
                sizes[space] = dimension(db, space) or vector.size
            if sizes[space] != vector.size:
                raise GalleryError(
                    f"{quoted(name)} has a vector of {vector.size} values in space {quoted(space)}, where "
                    f"others have {sizes[space]}; nobody was imported: the file lies about its models"
                )
