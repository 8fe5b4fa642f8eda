"""The gallery: people, their samples, and the vector spaces that the samples live in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from facecam.errors import GalleryOfAnotherModel, UsageFault
from facecam.people.database import ORIGIN, Database, Erased, mark_erase
from facecam.people.names import clean_date, clean_name, clean_note, escaped, lookup_name, quoted
from facecam.people.negatives import move_negatives, negatives_of, put_negatives
from facecam.people.reading import labelled_vectors, negative_vectors, records_of, template_set
from facecam.people.records import (
    Added,
    Consent,
    Merged,
    Negative,
    Person,
    Record,
    Rejected,
    Removed,
    TemplateSet,
    Withdrawn,
)
from facecam.people.rows import (
    askable,
    lend_crop,
    people_of,
    person_id,
    put,
    put_consent,
)
from facecam.people.sqlite import utc_now
from facecam.people.store import open_gallery_file
from facecam.settings import home
from facecam.values import Sample

__all__ = ["Added", "Gallery", "Merged", "Person", "Record", "Removed", "TemplateSet"]


class Gallery:
    """The people that facecam knows, in one file. Every change is all or nothing and on the disk on return.

    Any number of processes may use the file at once. A fault is a GalleryError (damaged, locked) or
    an OutputError (read-only, disk full), both of one line.
    """

    def __init__(self, store: Database) -> None:
        """Use `Gallery.open`."""
        self.store = store

    @classmethod
    def open(cls, path: Path | None = None, create: bool = True, ask: Callable[[], str] | None = None) -> Gallery:
        """Open the gallery at ``path``, by default gallery.db in facecam's home.

        Args:
            create: make an absent one. Without it, an absent gallery reads as one without people.
            ask: gives the passphrase of an encrypted one, when it is first needed and FACECAM_PASSPHRASE is
                not set.

        Raises:
            GalleryDamaged, GalleryError, OutputError: see `open_database`.
        """
        return cls(open_gallery_file(path or home() / "gallery.db", create=create, ask=ask))

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self.store.path

    # What is there

    def people(self) -> list[Person]:
        """Everybody, sorted by name, letters of both cases together."""
        with self.store.read() as db:
            everybody = people_of(db)
        return sorted(everybody, key=lambda p: (p.name.casefold(), p.name))

    def person(self, name: str) -> Person:
        """The person of that name.

        Raises:
            PersonNotFound: nobody; the message names those with a similar name.
        """
        with self.store.read() as db:
            return people_of(db, person_id(db, name))[0]

    def samples(self, name: str, *, crops: bool = False) -> list[Record]:
        """A person's samples in the order in which they came.

        Args:
            crops: read the pictures, too.

        Raises:
            PersonNotFound: nobody has that name.
        """
        with self.store.read() as db:
            return records_of(db, person_id(db, name), crops)

    def has_digest(self, name: str, digest: str, space: str | None = None) -> bool:
        """Whether the person was enrolled from this content (with a vector in ``space``, if given).

        False for a name that nobody has.
        """
        with self.store.read() as db:
            row = db.execute(
                "SELECT 1 FROM sample JOIN person ON person.id = person"
                " WHERE name = ? AND digest = ? AND (? IS NULL OR EXISTS"
                " (SELECT 1 FROM template WHERE template.sample = sample.id AND space = ?))",
                (askable(lookup_name(name)), digest, space, space),
            ).fetchone()
        return row is not None

    def templates(self, space: str) -> TemplateSet:
        """All vectors of ``space``.

        Raises:
            GalleryDamaged: a stored vector is not a unit vector of the space's dimension.
        """
        return self.labelled_templates(space)[0]

    def labelled_templates(self, space: str) -> tuple[TemplateSet, tuple[tuple[str, str], ...]]:
        """As `templates`, with (digest, source) of each row."""
        with self.store.read() as db:
            vectors, labels = labelled_vectors(db, space)
        return template_set(vectors, self._shown), labels

    def negatives(self, space: str) -> TemplateSet:
        """All vectors of ``space`` of which the user said "this is not NAME", under those names.

        Raises:
            GalleryDamaged: as `templates`.
        """
        with self.store.read() as db:
            vectors = negative_vectors(db, space)
        return template_set(vectors, self._shown)

    def negatives_of(self, name: str) -> list[Negative]:
        """The pictures that are not this person, in the order in which they came.

        Raises:
            PersonNotFound: nobody has that name.
        """
        with self.store.read() as db:
            return negatives_of(db, person_id(db, name))

    def spaces(self) -> dict[str, int]:
        """How many vectors there are in each space."""
        with self.store.read() as db:
            return dict(db.execute("SELECT space, count(*) FROM template GROUP BY space ORDER BY space"))

    def check_space(self, space: str) -> None:
        """Make sure that everybody can be recognised by an embedder of ``space``.

        Raises:
            GalleryOfAnotherModel: somebody has no vector in it: they would silently be strangers.
        """
        strangers = [person for person in self.people() if space not in person.spaces]
        if strangers:
            shown = ", ".join(quoted(p.name) for p in strangers[:3]) + (" ..." if len(strangers) > 3 else "")
            theirs = ", ".join(sorted({s for p in strangers for s in p.spaces}))
            raise GalleryOfAnotherModel(
                f"{self._shown}: {len(strangers)} of {len(self.people())} people ({shown}) were enrolled by "
                f"another model (space {escaped(theirs)}) than the one in use ({escaped(space)}); {REEMBED}"
            )

    def version(self) -> int:
        """A number that differs after every change by any process; asking costs some ten microseconds.

        Only what a run notes of unknown people leaves it as it is.
        """
        return self.store.changes()

    def origin(self) -> Any:
        """What differs after a backup was put in the gallery's place (`people.backup.restore`)."""
        return self.store.value(ORIGIN)

    def setting(self, key: str) -> Any:
        """What was kept with the gallery under ``key`` (a calibration, say); None if nothing was."""
        text = self.store.value(f"setting.{key}")
        return None if text is None else json.loads(text)

    # Changes

    def add(self, name: str, samples: Sequence[Sample]) -> Added:
        """Enrol: all samples or, on any fault, none. The person is made if absent.

        A sample whose content (digest) this person already has with a vector in the same space is
        skipped and reported; with a vector of another space only, it gains the new vector.

        Raises:
            UsageFault: the name cannot be one.
            ValueError: no samples, or vectors of another dimension than the space has.
        """
        self.store.unlock()
        with self.store.atomic() as db:
            return put(db, clean_name(name), [Record.of(sample) for sample in samples])

    def rename(self, old: str, new: str) -> Person:
        """Give a person another name.

        Raises:
            PersonNotFound: nobody is called ``old``.
            UsageFault: ``new`` cannot be a name, or somebody has it.
        """
        name = clean_name(new)
        self.person(old)  # asked first: where nothing can be written, a wrong name is still a wrong name
        with self.store.atomic() as db:
            person = person_id(db, old)
            other = db.execute("SELECT id FROM person WHERE name = ?", (name,)).fetchone()
            if other is not None and other[0] != person:
                raise UsageFault(
                    f"there is already a person called {quoted(name)}; to make one person of both: "
                    f"facecam people merge {quoted(old)} {quoted(name)}"
                )
            db.execute("UPDATE person SET name = ?, updated = ? WHERE id = ?", (name, utc_now(), person))
            return people_of(db, person)[0]

    def merge(self, source: str, target: str) -> Merged:
        """Give all samples of ``source`` to ``target``; ``source`` is no more.

        Raises:
            PersonNotFound: one of them does not exist.
            UsageFault: both are the same person.
        """
        self.person(source), self.person(target)
        with self.store.atomic() as db:
            old, new = person_id(db, source), person_id(db, target)
            if old == new:
                raise UsageFault(f"merge takes two people, not {quoted(target)} twice")
            (before,) = db.execute("SELECT count(*) FROM sample WHERE person = ?", (old,)).fetchone()
            # Where both have the same picture, the target's sample gains what it lacks.
            pairs = db.execute(
                "SELECT a.id, b.id FROM sample a JOIN sample b ON a.digest = b.digest"
                " WHERE a.person = ? AND b.person = ?",
                (old, new),
            ).fetchall()
            for theirs, kept in pairs:
                db.execute("UPDATE OR IGNORE template SET sample = ? WHERE sample = ?", (kept, theirs))
                lend_crop(db, theirs, kept)
            db.execute("UPDATE OR IGNORE sample SET person = ? WHERE person = ?", (new, old))
            move_negatives(db, old, new)
            had, gives = people_of(db, new)[0].consent, people_of(db, old)[0].consent
            if had is None and gives is not None:
                put_consent(db, new, gives)
            db.execute("DELETE FROM person WHERE id = ?", (old,))
            db.execute("UPDATE person SET updated = ? WHERE id = ?", (utc_now(), new))
            (name,) = db.execute("SELECT name FROM person WHERE id = ?", (new,)).fetchone()
        return Merged(name, before - len(pairs), len(pairs))

    def remove(self, name: str) -> Removed:
        """Delete a person so that no file of the gallery holds anything of them (`Database.erase`).

        Raises:
            PersonNotFound: nobody has that name.
        """
        self.person(name)
        with self.store.atomic() as db:
            person = people_of(db, person_id(db, name))[0]
            db.execute("DELETE FROM person WHERE id = ?", (person.id,))
            mark_erase(db)
        erased = self.store.erase()
        return Removed(
            person.name, person.samples, person.crops, erased.backups, erased.problem, erased.renewed, erased.stale
        )

    def reject(self, name: str, samples: Sequence[Sample]) -> Rejected:
        """Keep pictures that are not this person: whoever resembles one more than the person is not named so.

        All or none. A picture that is there already is skipped and reported. Crops are not kept: the
        pictures show somebody who was not enrolled.

        Raises:
            PersonNotFound: nobody has that name.
            UsageFault: the person is enrolled from one of these very pictures.
            ValueError: no samples, or vectors of another dimension than the space has.
        """
        self.person(name)
        self.store.unlock()
        with self.store.atomic() as db:
            return put_negatives(db, name, [Record.of(sample) for sample in samples])

    def unreject(self, name: str, digests: Sequence[str]) -> Withdrawn:
        """Take negatives back, erased like a removed person (`Database.erase`); digests that are none are ignored.

        Raises:
            PersonNotFound: nobody has that name.
        """
        self.person(name)
        with self.store.atomic() as db:
            person = person_id(db, name)
            gone = [n for n in negatives_of(db, person) if n.digest in set(digests)]
            for negative in gone:
                db.execute("DELETE FROM negative WHERE person = ? AND digest = ?", (person, negative.digest))
            if gone:
                mark_erase(db)
        if not gone:
            return Withdrawn(())
        erased = self.store.erase()
        return Withdrawn(tuple(gone), erased.backups, erased.problem, erased.renewed, erased.stale)

    def set_consent(self, name: str, note: str, date: str | None = None) -> Person:
        """Keep with a person what they agreed to and when.

        Args:
            date: like 2026-01-31; today by default.

        Raises:
            PersonNotFound: nobody has that name. UsageFault: the note or the date cannot be one.
        """
        consent = Consent(clean_note(note), clean_date(date or utc_now()[:10]))
        self.person(name)
        with self.store.atomic() as db:
            person = person_id(db, name)
            put_consent(db, person, consent)
            return people_of(db, person)[0]

    def withdraw_consent(self, name: str) -> tuple[Person, Erased]:
        """Take the note of a person's consent away, erased like a removed person (`Database.erase`).

        Raises:
            PersonNotFound: nobody has that name.
        """
        person = self.person(name)
        if person.consent is None:
            return person, Erased(())
        with self.store.atomic() as db:
            id = person_id(db, name)
            put_consent(db, id, None)
            mark_erase(db)
            person = people_of(db, id)[0]
        return person, self.store.erase()

    def set_setting(self, key: str, value: Any) -> None:
        """Keep ``value`` (anything JSON can hold) with the gallery; None takes it away."""
        with self.store.atomic() as db:
            if value is None:
                db.execute("DELETE FROM meta WHERE key = ?", (f"setting.{key}",))
            else:
                text = json.dumps(value, ensure_ascii=False, allow_nan=False)
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"setting.{key}", text))

    @property
    def _shown(self) -> str:
        return escaped(str(self.path))


#: What to do about samples of another space. It may only name commands that exist.
REEMBED: Final = (
    "facecam people migrate makes their vectors anew from the kept crops; or go back to that model "
    "(facecam models use NAME)"
)
