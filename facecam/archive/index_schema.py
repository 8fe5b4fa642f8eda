"""The schema of an archive index as named, ordered migrations; `people.database` applies it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from facecam.errors import ArchiveError
from facecam.people.sqlite import Kind, Migration

#: A file is an input: how it was named, what it was (size, time of change in ns, SHA-256), what it was analysed
#: with (params; another value is another analysis), and how far it is: planned (its segments are known), named
#: (its tracks have their answers), writing (its outputs may be there in part), written, failed. Paths are bytes:
#: not every name of a file is a text. A segment is a stretch of a video, or a whole photo; without data it is
#: not done yet. A part is what a segment saw of a track; its vectors are little-endian, total float64 and views
#: float32. A track is the answer for the whole file. `given` is a name that the user gave to an unknown person.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(
        "0001_archive",
        (
            """CREATE TABLE file (
                id INTEGER PRIMARY KEY,
                path BLOB NOT NULL UNIQUE CHECK (typeof(path) = 'blob'),
                source BLOB NOT NULL CHECK (typeof(source) = 'blob'),
                stem BLOB NOT NULL CHECK (typeof(stem) = 'blob'),
                kind TEXT NOT NULL CHECK (kind IN ('video', 'photo')),
                position INTEGER NOT NULL,
                size INTEGER NOT NULL,
                modified INTEGER NOT NULL,
                digest TEXT NOT NULL CHECK (typeof(digest) = 'text'),
                params TEXT NOT NULL CHECK (typeof(params) = 'text'),
                space TEXT NOT NULL CHECK (typeof(space) = 'text'),
                state TEXT NOT NULL CHECK (state IN ('planned', 'named', 'writing', 'written', 'failed')),
                info TEXT NOT NULL CHECK (typeof(info) = 'text'),
                outputs TEXT NOT NULL DEFAULT '{}' CHECK (typeof(outputs) = 'text'),
                problem TEXT)""",
            """CREATE TABLE segment (
                id INTEGER PRIMARY KEY,
                file INTEGER NOT NULL REFERENCES file (id) ON DELETE CASCADE,
                number INTEGER NOT NULL,
                start REAL,
                stop REAL,
                facts TEXT CHECK (facts IS NULL OR typeof(facts) = 'text'),
                data BLOB CHECK ((data IS NULL) = (facts IS NULL)),
                UNIQUE (file, number))""",
            """CREATE TABLE part (
                id INTEGER PRIMARY KEY,
                segment INTEGER NOT NULL REFERENCES segment (id) ON DELETE CASCADE,
                track INTEGER NOT NULL,
                believed INTEGER NOT NULL,
                until REAL NOT NULL,
                since REAL,
                weight REAL NOT NULL,
                count INTEGER NOT NULL,
                best REAL NOT NULL,
                decided INTEGER NOT NULL,
                total BLOB CHECK (total IS NULL OR typeof(total) = 'blob' AND length(total) % 8 = 0),
                views BLOB NOT NULL CHECK (typeof(views) = 'blob' AND length(views) % 4 = 0),
                scheme TEXT,
                landmarks BLOB CHECK (landmarks IS NULL OR typeof(landmarks) = 'blob' AND length(landmarks) = 40),
                quality REAL,
                picture BLOB CHECK (picture IS NULL OR typeof(picture) = 'blob'),
                UNIQUE (segment, track))""",
            """CREATE TABLE track (
                file INTEGER NOT NULL REFERENCES file (id) ON DELETE CASCADE,
                track INTEGER NOT NULL,
                believed INTEGER NOT NULL,
                name TEXT,
                unknown INTEGER,
                given TEXT,
                candidate TEXT,
                similarity REAL,
                second TEXT,
                second_similarity REAL,
                mean REAL,
                highest REAL,
                start REAL,
                stop REAL,
                frames INTEGER NOT NULL,
                PRIMARY KEY (file, track)) WITHOUT ROWID""",
            "CREATE INDEX track_name ON track (name)",
            "CREATE INDEX track_unknown ON track (unknown)",
        ),
    ),
)


def _remedy(path: Path) -> str:
    return "move it away and run facecam label again"


INDEX: Final = Kind(
    noun="archive index",
    application_id=0x66636178,  # "fcax"
    migrations=MIGRATIONS,
    absent="there is no such archive index; make one with facecam label --index",
    remedy=_remedy,
    error=ArchiveError,
    damaged=ArchiveError,
    place="name another file by --index",
)
