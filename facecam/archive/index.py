"""The archive index: what a run has found out, kept as it goes, so that nothing has to be found out twice.

It holds templates and small pictures of everybody seen, also of people who never agreed to it: it is as private
as the gallery (mode 0600). Every change is on the disk when the call returns; a run that is killed goes on
from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from facecam.archive.index_rows import (
    COLUMNS,
    FACTS,
    PART,
    SEEN,
    Entry,
    Limits,
    Seen,
    as_bytes,
    as_json,
    edges_in,
    edges_out,
    entry_of,
    part_in,
    part_out,
    seen_in,
    seen_out,
)  # fmt: skip
from facecam.archive.index_schema import INDEX
from facecam.archive.inputs import Item
from facecam.archive.pieces import Piece
from facecam.errors import ArchiveError
from facecam.people.database import Database, Erased, mark_erase, open_database, temporary_database
from facecam.people.names import escaped
from facecam.people.sqlite import Connection

__all__ = ["FAILED", "NAMED", "PENDING", "PLANNED", "WRITING", "WRITTEN", "ArchiveIndex", "Entry", "Limits", "Seen"]

PLANNED: Final = "planned"
NAMED: Final = "named"
WRITING: Final = "writing"
WRITTEN: Final = "written"
FAILED: Final = "failed"
#: In a file's info: it was named anew, and its texts may still have the old names.
PENDING: Final = "pending"


class ArchiveIndex:
    """One open index; one thread uses it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> ArchiveIndex:
        """Open the index at ``path``.

        Raises:
            ArchiveError: there is none (without ``create``), it is damaged, or of a newer facecam.
            OutputError: it cannot be opened or made.
        """
        if not create and not path.exists():
            raise ArchiveError(f"{escaped(str(path))}: {INDEX.absent}")
        return cls(open_database(path, INDEX, create=create))

    @classmethod
    def temporary(cls) -> ArchiveIndex:
        """An index for one run, gone with it."""
        return cls(temporary_database(INDEX))

    @property
    def path(self) -> Path:
        return self._db.path

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> ArchiveIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Files

    def find(self, path: Path) -> Entry | None:
        """The entry of a file, None if it has none."""
        with self._db.read() as db:
            rows = db.execute(f"SELECT {COLUMNS} FROM file WHERE path = ?", (as_bytes(path.absolute()),)).fetchall()
        return entry_of(rows[0]) if rows else None

    def get(self, id: int) -> Entry:
        """The entry of an id."""
        with self._db.read() as db:
            return entry_of(db.execute(f"SELECT {COLUMNS} FROM file WHERE id = ?", (id,)).fetchone())

    def entries(self) -> list[Entry]:
        """All files, in the order in which they were named."""
        with self._db.read() as db:
            rows = db.execute(f"SELECT {COLUMNS} FROM file ORDER BY position, id").fetchall()
        return [entry_of(row) for row in rows]

    def enter(
        self, item: Item, *, size: int, modified: int, digest: str, params: str, space: str,
        info: Mapping[str, Any], limits: list[Limits],
    ) -> int:  # fmt: skip
        """Begin a file anew, forgetting what was known of that path; returns its id."""
        path = as_bytes(item.path.absolute())
        with self._db.atomic() as db:
            db.execute("DELETE FROM file WHERE path = ?", (path,))
            (last,) = db.execute("SELECT coalesce(max(position), 0) FROM file").fetchone()
            cursor = db.execute(
                "INSERT INTO file (path, source, stem, kind, position, size, modified, digest, params, space, state,"
                " info) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (path, as_bytes(item.path), as_bytes(item.stem), item.kind, last + 1, size, modified, digest, params,
                 space, PLANNED, as_json(info)),
            )  # fmt: skip
            file = int(cursor.lastrowid or 0)
            db.executemany(
                "INSERT INTO segment (file, number, start, stop) VALUES (?, ?, ?, ?)",
                [(file, number, start, stop) for number, (start, stop) in enumerate(limits)],
            )
        return file

    def touch(self, file: int, item: Item, *, size: int, modified: int) -> None:
        """A file is as it was; what may differ is how it is called this time, and its time of change."""
        with self._db.atomic(counted=False) as db:
            db.execute(
                "UPDATE file SET source = ?, stem = ?, size = ?, modified = ? WHERE id = ?",
                (as_bytes(item.path), as_bytes(item.stem), size, modified, file),
            )

    def set_state(
        self, file: int, state: str, *, outputs: Mapping[str, Any] | None = None, problem: str | None = None
    ) -> None:
        """Note how far a file is."""
        with self._db.atomic() as db:
            db.execute("UPDATE file SET state = ?, problem = ? WHERE id = ?", (state, problem, file))
            if outputs is not None:
                db.execute("UPDATE file SET outputs = ? WHERE id = ?", (as_json(outputs), file))

    def note_album(self, files: Sequence[int], paths: Sequence[str]) -> None:
        """Note what was written for several files together."""
        with self._db.atomic() as db:
            for file in files:
                (text,) = db.execute("SELECT outputs FROM file WHERE id = ?", (file,)).fetchone()
                outputs = json.loads(text) | {"album": list(paths)}
                db.execute("UPDATE file SET outputs = ? WHERE id = ?", (as_json(outputs), file))

    # Segments

    def limits(self, file: int) -> list[Limits]:
        """The limits of a file's segments, in order."""
        with self._db.read() as db:
            return db.execute("SELECT start, stop FROM segment WHERE file = ? ORDER BY number", (file,)).fetchall()

    def missing(self, file: int) -> list[int]:
        """Numbers of the segments that are not done."""
        with self._db.read() as db:
            rows = db.execute("SELECT number FROM segment WHERE file = ? AND data IS NULL ORDER BY number", (file,))
            return [number for (number,) in rows.fetchall()]

    def put(self, file: int, number: int, piece: Piece) -> None:
        """Keep a segment's analysis: all of it or nothing."""
        facts = {name: getattr(piece, name) for name in FACTS}
        facts["together"] = sorted(piece.together)
        facts["edges"] = edges_out(piece.edges)
        with self._db.atomic() as db:
            (segment,) = db.execute("SELECT id FROM segment WHERE file = ? AND number = ?", (file, number)).fetchone()
            db.execute("DELETE FROM part WHERE segment = ?", (segment,))
            db.execute("UPDATE segment SET data = ?, facts = ? WHERE id = ?", (piece.data, as_json(facts), segment))
            db.executemany(
                f"INSERT INTO part ({', '.join(PART)}) VALUES ({', '.join('?' * len(PART))})",
                [part_out(segment, part) for part in piece.parts],
            )

    def pieces(self, file: int, *, data: bool = True, views: bool = True, pictures: bool = False) -> Iterator[Piece]:
        """What the segments of a file gave, in order; every one must be done.

        Args:
            data, views, pictures: whether these are wanted; they are most of what there is to read.
        """
        with self._db.read() as db:
            segments = db.execute(
                f"SELECT id, facts, {'data' if data else 'zeroblob(0)'} FROM segment WHERE file = ? ORDER BY number",
                (file,),
            ).fetchall()
        for segment, facts, blob in segments:
            if facts is None:
                raise ArchiveError(f"{escaped(str(self.path))}: a video is not done; run label again with --resume")
            with self._db.read() as db:
                yield self._piece(db, segment, json.loads(facts), blob, views, pictures)

    def _piece(
        self, db: Connection, segment: int, facts: dict[str, Any], data: bytes, views: bool, pictures: bool
    ) -> Piece:
        wanted = (
            f"track, believed, until, since, weight, count, best, decided, total, {'views' if views else 'zeroblob(0)'}"
        )
        if pictures:
            wanted += ", scheme, landmarks, quality, picture"
        rows = db.execute(f"SELECT {wanted} FROM part WHERE segment = ? ORDER BY id", (segment,)).fetchall()
        together = {(int(a), int(b)) for a, b in facts.pop("together")}
        edges = edges_in(facts.pop("edges"))
        facts["size"] = tuple(facts["size"])
        return Piece(**facts, data=data, parts=[part_in(row) for row in rows], together=together, edges=edges)

    # Answers

    def answer(self, file: int, tracks: Mapping[int, Seen], info: Mapping[str, Any], state: str = NAMED) -> None:
        """Keep the answers for the tracks of a file."""
        with self._db.atomic() as db:
            db.execute("DELETE FROM track WHERE file = ?", (file,))
            db.executemany(
                "INSERT INTO track VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [seen_out(file, track, seen) for track, seen in tracks.items()],
            )
            db.execute("UPDATE file SET state = ?, info = ? WHERE id = ?", (state, as_json(info), file))

    def answers(self, file: int) -> dict[int, Seen]:
        """track -> answer of a file."""
        with self._db.read() as db:
            rows = db.execute(f"SELECT {SEEN} FROM track WHERE file = ? ORDER BY track", (file,)).fetchall()
        return {row[0]: seen_in(row[1:]) for row in rows}

    def give(self, unknown: int, name: str) -> None:
        """Note that the user named an unknown person: all tracks that have the number."""
        with self._db.atomic() as db:
            db.execute("UPDATE track SET given = ? WHERE unknown = ?", (name, unknown))

    def unknown_tracks(self, unknown: int) -> list[tuple[int, int]]:
        """(file, track) of an unknown person."""
        with self._db.read() as db:
            return db.execute(
                "SELECT file, track FROM track JOIN file ON file.id = file WHERE unknown = ? ORDER BY position, track",
                (unknown,),
            ).fetchall()

    # Taking a person out (`archive.forget`)

    def clear_parts(self, file: int, parts: Sequence[tuple[int, int]]) -> None:
        """Delete what was seen of (segment's number, track of the segment) but for when: see `Part.erased`."""
        with self._db.atomic() as db:
            db.executemany(
                "UPDATE part SET total = NULL, views = x'', scheme = NULL, landmarks = NULL, quality = NULL,"
                " picture = NULL, weight = 0, best = 0, count = -1"
                " WHERE segment = (SELECT id FROM segment WHERE file = ? AND number = ?) AND track = ?",
                [(file, number, track) for number, track in parts],
            )
            mark_erase(db)

    def drop_name(self, name: str) -> None:
        """Forget a name in all answers."""
        with self._db.atomic() as db:
            db.execute("UPDATE track SET name = NULL WHERE name = ?", (name,))
            db.execute("UPDATE track SET given = NULL WHERE given = ?", (name,))
            db.execute(
                "UPDATE track SET candidate = NULL, similarity = NULL, mean = NULL, highest = NULL WHERE candidate = ?",
                (name,),
            )
            db.execute("UPDATE track SET second = NULL, second_similarity = NULL WHERE second = ?", (name,))
            mark_erase(db)

    def note_info(self, file: int, info: Mapping[str, Any]) -> None:
        """Replace what is known of a file."""
        with self._db.atomic() as db:
            db.execute("UPDATE file SET info = ? WHERE id = ?", (as_json(info), file))

    def note_renewed(self, files: Mapping[int, bool]) -> None:
        """Note that the texts of files have the names as they are; and whether a labelled copy shows old ones."""
        with self._db.atomic() as db:
            for file, stale in files.items():
                info, outputs = db.execute("SELECT info, outputs FROM file WHERE id = ?", (file,)).fetchone()
                kept = {key: value for key, value in json.loads(info).items() if key != PENDING}
                noted = json.loads(outputs) | ({"stale": True} if stale else {})
                db.execute("UPDATE file SET info = ?, outputs = ? WHERE id = ?", (as_json(kept), as_json(noted), file))

    def erase(self) -> Erased:
        """See `Database.erase`."""
        return self._db.erase()
