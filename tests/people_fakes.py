"""Samples, models and processes for the tests of the gallery."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np

from facecam.people.database import Database, open_database
from facecam.people.gallery import Gallery
from facecam.people.schema import MIGRATIONS
from facecam.people.sqlite import Migration
from facecam.people.store import GALLERY
from facecam.values import Sample, Template

ROOT = Path(__file__).parent.parent
SPACE = "space-one"


def png(seed: int, side: int = 12) -> bytes:
    """A PNG of noise."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def vector(seed: int, space: str = SPACE, dim: int = 128) -> np.ndarray:
    values = np.random.default_rng([seed, zlib.crc32(space.encode())]).normal(size=dim).astype(np.float32)
    return values / np.linalg.norm(values)


def digest(seed: int) -> str:
    return hashlib.sha256(b"%d" % seed).hexdigest()


def sample(seed: int, space: str = SPACE, crop: bool = True, dim: int = 128) -> Sample:
    """A sample that is a function of its seed (and space)."""
    return Sample(
        Template(vector(seed, space, dim), space),
        digest(seed),
        f"photo{seed}.jpg",
        0.5,
        png(seed) if crop else None,
        np.arange(10, dtype=np.float32).reshape(5, 2) + seed % 7 if crop else None,
        "dlib5" if crop else None,
    )


def open_store(path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> Database:
    """The gallery's file, with another schema."""
    return open_database(path, dataclasses.replace(GALLERY, migrations=migrations))


Model = dict[str, set[str]]
Step = tuple[str, tuple]


def steps(seed: int, prefix: str = "") -> list[Step]:
    """Two hundred random operations; each name and seed stands for itself, so they can be replayed."""
    chance = random.Random(seed)
    names = [f"{prefix}P{i}" for i in range(6)]
    made: list[Step] = []
    for i in range(200):
        kind = chance.choice(("add", "add", "add", "rename", "merge", "remove"))
        one, two = chance.sample(names, 2)
        if kind == "add":
            made.append(("add", (one, [seed * 100_000 + i * 10 + k for k in range(3)])))
        elif kind == "remove":
            made.append(("remove", (one,)))
        else:
            made.append((kind, (one, two)))
    return made


def in_model(model: Model, step: Step) -> None:
    """What `in_gallery` should have done: person -> digests."""
    kind, what = step
    if kind == "add":
        model.setdefault(what[0], set()).update(digest(seed) for seed in what[1])
    elif kind == "remove":
        model.pop(what[0], None)
    elif kind == "rename":
        if what[0] in model and what[1] not in model:
            model[what[1]] = model.pop(what[0])
    elif what[0] in model and what[1] in model:
        model[what[1]] |= model.pop(what[0])


def in_gallery(gallery: Gallery, step: Step) -> None:
    from facecam.errors import PersonNotFound, UsageFault

    kind, what = step
    try:
        if kind == "add":
            gallery.add(what[0], [sample(seed) for seed in what[1]])
        elif kind == "remove":
            gallery.remove(what[0])
        elif kind == "rename":
            gallery.rename(*what)
        else:
            gallery.merge(*what)
    except (PersonNotFound, UsageFault):
        pass  # the model does nothing in these cases either


def state(gallery: Gallery) -> Model:
    """Person -> digests, with every sample checked to be whole."""
    found: Model = {}
    for person in gallery.people():
        records = gallery.samples(person.name, crops=True)
        for record in records:
            assert set(record.vectors) == {SPACE} and record.vectors[SPACE].shape == (128,)
            assert record.crop is not None and record.landmarks is not None and record.scheme == "dlib5"
        assert len(records) == person.samples == person.crops > 0
        found[person.name] = {record.digest for record in records}
    return found


def start(code: str, *arguments: object, **extra: object) -> subprocess.Popen[str]:
    """Run Python code (it may import this module) in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        **extra,  # type: ignore[call-overload]
    )


def traces(folder: Path, secrets: list[bytes], width: int = 12) -> list[tuple[str, bytes]]:
    """Every file below ``folder`` that holds any stretch of ``width`` bytes of a secret (shorter ones whole)."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            for secret in secrets:
                pieces = [secret[i : i + width] for i in range(0, max(1, len(secret) - width + 1), width)]
                found += [(path.name, piece) for piece in pieces if piece in data]
    return found


def secrets_of(seed: int) -> list[bytes]:
    """What of `sample` must not be found after a deletion (not the parts that every PNG has)."""
    made = sample(seed)
    assert made.crop is not None
    return [made.digest.encode(), made.template.vector.tobytes(), made.crop[45:-20], made.source.encode()]


def try_all(path: Path, many: int) -> list[str]:
    """Read and change a gallery of "Person 0" to "Person 2"; what came of it, a line each."""
    from facecam.errors import FacecamError

    lines = []
    try:
        with Gallery.open(path) as gallery:
            lines.append(f"people {len(gallery.people())} {len(gallery.templates(SPACE).names)}")
            for change in (
                lambda: gallery.add("Ada", [sample(500 + i) for i in range(many)]),
                lambda: gallery.rename("Person 0", "X"),
                lambda: gallery.remove("Person 1"),
                lambda: gallery.merge("Person 0", "Person 2"),
            ):
                try:
                    lines.append(f"done {change()}")
                except FacecamError as error:
                    lines.append(f"{type(error).__name__} {error}")
    except FacecamError as error:
        lines.append(f"open: {type(error).__name__} {error}")
    return lines
