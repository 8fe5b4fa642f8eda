"""The gallery's schema as named, ordered migrations. Plain SQL; `people.database` applies it.

Of the table of small facts (`people.database`) the gallery has: "strangers", the highest number
that an unknown person ever had, "setting.*", which belong to `Gallery.setting`, and, if it is encrypted,
"seal" (`people.seal`).
"""

from __future__ import annotations

from typing import Final

from facecam.people.sqlite import Migration

#: A sample is a picture of a person; a template is what one embedder made of it, so that a picture
#: can be embedded again by another model while the old vectors still serve. Crops stand apart from
#: the vectors: reading all vectors must not walk through megabytes of pictures. Times are ISO 8601
#: in UTC. Vectors are float32, little-endian; landmarks are five such pairs. The CHECKs are what the
#: integrity check at opening holds each row to, so that damage is met there and not in arithmetic.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(
        "0001_people",
        (
            """CREATE TABLE person (
                id INTEGER PRIMARY KEY,
                name TEXT NOT NULL UNIQUE CHECK (typeof(name) = 'text'),
                created TEXT NOT NULL CHECK (typeof(created) = 'text'),
                updated TEXT NOT NULL CHECK (typeof(updated) = 'text'))""",
            """CREATE TABLE sample (
                id INTEGER PRIMARY KEY,
                person INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
                digest TEXT NOT NULL CHECK (typeof(digest) = 'text'),
                source TEXT NOT NULL CHECK (typeof(source) = 'text'),
                quality REAL NOT NULL CHECK (typeof(quality) = 'real'),
                landmarks BLOB CHECK (landmarks IS NULL OR typeof(landmarks) = 'blob' AND length(landmarks) = 40),
                scheme TEXT CHECK ((scheme IS NULL) = (landmarks IS NULL)),
                created TEXT NOT NULL CHECK (typeof(created) = 'text'),
                UNIQUE (person, digest))""",
            "CREATE INDEX sample_digest ON sample (digest)",
            """CREATE TABLE template (
                id INTEGER PRIMARY KEY,
                sample INTEGER NOT NULL REFERENCES sample (id) ON DELETE CASCADE,
                space TEXT NOT NULL CHECK (typeof(space) = 'text'),
                vector BLOB NOT NULL CHECK (typeof(vector) = 'blob' AND length(vector) % 4 = 0),
                UNIQUE (sample, space))""",
            "CREATE INDEX template_space ON template (space)",
            """CREATE TABLE crop (
                sample INTEGER PRIMARY KEY REFERENCES sample (id) ON DELETE CASCADE,
                image BLOB NOT NULL CHECK (typeof(image) = 'blob'))""",
        ),
    ),
    # A negative is a picture that is not the person. A stranger is an unknown person whom the user
    # chose to remember; its id is the number in "Unknown 12" and is never used again. A template of
    # theirs is a weighted sum of unit vectors, so that the order of sightings does not matter.
    # Somebody who proved to be another stranger keeps a row without data that points to that one.
    Migration(
        "0002_strangers",
        (
            """CREATE TABLE negative (
                id INTEGER PRIMARY KEY,
                person INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
                digest TEXT NOT NULL CHECK (typeof(digest) = 'text'),
                source TEXT NOT NULL CHECK (typeof(source) = 'text'),
                created TEXT NOT NULL CHECK (typeof(created) = 'text'),
                UNIQUE (person, digest))""",
            """CREATE TABLE negative_template (
                id INTEGER PRIMARY KEY,
                negative INTEGER NOT NULL REFERENCES negative (id) ON DELETE CASCADE,
                space TEXT NOT NULL CHECK (typeof(space) = 'text'),
                vector BLOB NOT NULL CHECK (typeof(vector) = 'blob' AND length(vector) % 4 = 0),
                UNIQUE (negative, space))""",
            """CREATE TABLE stranger (
                id INTEGER PRIMARY KEY CHECK (id > 0),
                first_seen TEXT NOT NULL CHECK (typeof(first_seen) = 'text'),
                last_seen TEXT NOT NULL CHECK (typeof(last_seen) = 'text'),
                source TEXT NOT NULL CHECK (typeof(source) = 'text'),
                seen INTEGER NOT NULL CHECK (typeof(seen) = 'integer' AND seen >= 0),
                merged_into INTEGER REFERENCES stranger (id) ON DELETE CASCADE CHECK (merged_into <> id))""",
            "CREATE INDEX stranger_merged_into ON stranger (merged_into)",
            """CREATE TABLE stranger_template (
                id INTEGER PRIMARY KEY,
                stranger INTEGER NOT NULL REFERENCES stranger (id) ON DELETE CASCADE,
                space TEXT NOT NULL CHECK (typeof(space) = 'text'),
                total BLOB NOT NULL CHECK (typeof(total) = 'blob' AND length(total) % 4 = 0),
                weight REAL NOT NULL CHECK (typeof(weight) = 'real' AND weight > 0),
                UNIQUE (stranger, space))""",
            "CREATE INDEX stranger_template_space ON stranger_template (space)",
            """CREATE TABLE stranger_crop (
                stranger INTEGER PRIMARY KEY REFERENCES stranger (id) ON DELETE CASCADE,
                image BLOB NOT NULL CHECK (typeof(image) = 'blob'),
                quality REAL NOT NULL CHECK (typeof(quality) = 'real'),
                landmarks BLOB CHECK (landmarks IS NULL OR typeof(landmarks) = 'blob' AND length(landmarks) = 40),
                scheme TEXT CHECK ((scheme IS NULL) = (landmarks IS NULL)))""",
            "INSERT INTO meta VALUES ('strangers', 0)",
        ),
    ),
    # What a person agreed to, and when. Private values may be sealed (`people.seal`), which makes them 28 bytes
    # longer: landmarks are then 68 bytes long, and vectors still a multiple of four.
    Migration(
        "0003_consent_and_seals",
        (
            "ALTER TABLE person ADD COLUMN consent TEXT CHECK (consent IS NULL OR typeof(consent) = 'text')",
            "ALTER TABLE person ADD COLUMN consented TEXT CHECK ((consented IS NULL) = (consent IS NULL))",
            """CREATE TABLE sample_new (
                id INTEGER PRIMARY KEY,
                person INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
                digest TEXT NOT NULL CHECK (typeof(digest) = 'text'),
                source TEXT NOT NULL CHECK (typeof(source) = 'text'),
                quality REAL NOT NULL CHECK (typeof(quality) = 'real'),
                landmarks BLOB
                    CHECK (landmarks IS NULL OR typeof(landmarks) = 'blob' AND length(landmarks) IN (40, 68)),
                scheme TEXT CHECK ((scheme IS NULL) = (landmarks IS NULL)),
                created TEXT NOT NULL CHECK (typeof(created) = 'text'),
                UNIQUE (person, digest))""",
            "INSERT INTO sample_new SELECT id, person, digest, source, quality, landmarks, scheme, created FROM sample",
            "DROP TABLE sample",
            "ALTER TABLE sample_new RENAME TO sample",
            "CREATE INDEX sample_digest ON sample (digest)",
            """CREATE TABLE stranger_crop_new (
                stranger INTEGER PRIMARY KEY REFERENCES stranger (id) ON DELETE CASCADE,
                image BLOB NOT NULL CHECK (typeof(image) = 'blob'),
                quality REAL NOT NULL CHECK (typeof(quality) = 'real'),
                landmarks BLOB
                    CHECK (landmarks IS NULL OR typeof(landmarks) = 'blob' AND length(landmarks) IN (40, 68)),
                scheme TEXT CHECK ((scheme IS NULL) = (landmarks IS NULL)))""",
            "INSERT INTO stranger_crop_new SELECT stranger, image, quality, landmarks, scheme FROM stranger_crop",
            "DROP TABLE stranger_crop",
            "ALTER TABLE stranger_crop_new RENAME TO stranger_crop",
        ),
    ),
)
