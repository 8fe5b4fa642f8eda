"""Many pictures to vectors, fast: one face a picture, found coarse to fine, embedded in batches by several threads."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facecam.engine import Engine
from facecam.errors import MediaError, SourceError
from facecam.settings import min_face_pixels
from facecam.values import Face, Image
from facecam.video.photos import IMAGE_SUFFIXES, read_photo
from facecam.vision.detect import Detector, merge
from facecam.vision.embed import MAX_BATCH
from facecam.vision.landmarks import locate_steadily
from facecam.vision.still import embed_stills, still_crops, unit_sums

Vectors = NDArray[np.float32]
#: Called with (pictures done, pictures in all).
Progress = Callable[[int, int | None], None]

#: The two ways to make a vector of a face: from its crops alone, or averaged with those of their mirror images.
PLAIN: Final = "plain"
MIRROR: Final = "mirror"
VARIANTS: Final = (PLAIN, MIRROR)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of pictures, in the order of their paths.

    Attributes:
        paths: n files.
        plain, mirror: float32, n x D, rows of norm 1; zeros where there is none.
        found: bool, n: whether the picture gave a vector.
        problems: one line for each file that could not be read.
    """

    paths: tuple[Path, ...]
    plain: Vectors
    mirror: Vectors
    found: NDArray[np.bool_]
    problems: tuple[str, ...] = ()

    def variant(self, name: str) -> Vectors:
        """The vectors of one of `VARIANTS`."""
        return {PLAIN: self.plain, MIRROR: self.mirror}[name]


def pictures(folder: Path) -> list[Path]:
    """The image files of a folder and its sub-folders (also linked ones), sorted; hidden ones are left out.

    Raises:
        SourceError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; give a folder of pictures")
    found = []
    walked = {os.path.realpath(folder)}
    for where, folders, files in os.walk(folder, followlinks=True):
        # A person's folder may be a link; a link that leads back up must not lead round and round.
        inner = {name: os.path.realpath(os.path.join(where, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, real in sorted(inner.items()) if real not in walked]
        walked.update(inner.values())
        found += [Path(where, f) for f in files if Path(f).suffix.lower() in IMAGE_SUFFIXES and not f.startswith(".")]
    if not found:
        raise SourceError(f"{folder}: no picture in this folder or below it; give a folder of pictures")
    return sorted(found)


def by_person(folder: Path) -> dict[str, list[Path]]:
    """Person -> pictures, sorted, of a folder that has a sub-folder for each person.

    Raises:
        SourceError: no such folder, or no picture in sub-folders.
    """
    people: dict[str, list[Path]] = {}
    for path in pictures(folder):
        parts = path.relative_to(folder).parts
        if len(parts) > 1:
            people.setdefault(parts[0], []).append(path)
    if not people:
        raise SourceError(f"{folder}: no sub-folder with pictures; give a folder that has a sub-folder for each person")
    return people


def reach(face: Face, width: int, height: int) -> float:
    """How far a face lies from the middle of a picture: its centre's distance less half its size, pixels.

    Of faces that hold the middle the larger one is lower, so that the lowest is the person a portrait is of.
    """
    x, y = face.centre
    return math.hypot(x - width / 2, y - height / 2) - face.size / 2


def main_face(detector: Detector, image: Image, min_face: float) -> Face | None:
    """The face nearest the middle, the larger the nearer (`reach`).

    Pyramid levels are searched from coarse to fine, and no further once no smaller face could be nearer: most
    pictures of a face test then cost a fraction of the whole pyramid.

    Args:
        image: BGR uint8, H x W x 3.
        min_face: pixels.
    """
    height, width = image.shape[:2]
    scales = sorted(detector.levels(width, height, min_face))
    faces: list[Face] = []
    best: Face | None = None
    for scale in scales:
        found = detector.detect_levels(image, [scale])
        if found:
            faces = merge([*faces, *found]) if faces else list(found)
            best = min(faces, key=lambda face: reach(face, width, height))
        # Finer levels show smaller faces than this: in the very middle one would reach minus half of it. A face of
        # just this size is looked for once more, a level finer: without that vote its box comes out a sixth too large.
        smaller = min_face * scales[-1] / scale
        if best is not None and reach(best, width, height) <= -smaller / 2:
            break
    return best


def crops_of(engine: Engine, image: Image) -> list[Image] | None:
    """The crops (`vision.still`) of a picture's main face, or None without a face."""
    face = main_face(engine.detector, image, min_face_pixels(engine.settings.min_face, image.shape[0]))
    if face is None:
        return None
    return still_crops(image, locate_steadily(engine.landmarker, image, [face])[0], engine.embedder.template)


def embed_files(
    engine: Engine, paths: Sequence[Path], progress: Progress = lambda done, total: None, *, workers: int = 1
) -> Embedded:
    """Find, align and embed the main face of each picture, with and without its mirror image.

    Args:
        workers: threads, each with pictures of its own; with more than one, the engine's models should run on
            one thread each (``Settings.threads``).

    Raises:
        FacecamError: of a worker, first come. KeyboardInterrupt: nothing is left running.
    """
    files = tuple(paths)
    size = engine.embedder.dim
    plain, mirror = np.zeros((len(files), size), np.float32), np.zeros((len(files), size), np.float32)
    found = np.zeros(len(files), np.bool_)
    problems: list[str] = []
    starts = range(0, len(files), MAX_BATCH)
    pool = ThreadPoolExecutor(max(1, workers), "eval")
    try:
        parts = pool.map(lambda start: _embed_some(engine, files[start : start + MAX_BATCH]), starts)
        for start, (rows, one, both, unread) in zip(starts, parts):
            at = start + np.array(rows, np.int64)
            plain[at], mirror[at], found[at] = one, both, True
            problems += unread
            progress(min(start + MAX_BATCH, len(files)), len(files))
    finally:
        pool.shutdown(cancel_futures=True)
    return Embedded(files, plain, mirror, found, tuple(problems))


def _embed_some(engine: Engine, paths: Sequence[Path]) -> tuple[list[int], Vectors, Vectors, list[str]]:
    """A batch: positions of the pictures that show a face, their two kinds of vectors, lines on unreadable files."""
    rows: list[int] = []
    faces: list[list[Image]] = []
    unread: list[str] = []
    for i, path in enumerate(paths):
        try:
            crops = crops_of(engine, read_photo(path))
        except MediaError as error:
            unread.append(str(error))
            continue
        if crops is not None:
            rows.append(i)
            faces.append(crops)
    flipped = [[np.ascontiguousarray(crop[:, ::-1]) for crop in crops] for crops in faces]
    # One way after the other and not mirror=True: the plain vectors come along for nothing.
    plain, turned = (embed_stills(engine.embedder, part, mirror=False) for part in (faces, flipped))
    return rows, plain, unit_sums(np.stack([plain, turned], axis=1)), unread


def data_of(embedded: Embedded) -> dict[str, Any]:
    """What a result says of its pictures: how many, and a hash of their names and sizes, which tells other data."""
    digest = hashlib.sha256()
    for path in embedded.paths:
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{path.parent.name}/{path.name}\0{size}\n".encode("utf-8", "surrogateescape"))
    return {
        "images": len(embedded.paths),
        "images_sha256": digest.hexdigest(),
        "images_without_face": int((~embedded.found).sum()) - len(embedded.problems),
        "images_unreadable": len(embedded.problems),
    }


def facts(engine: Engine, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """What every result begins with: its kind, the models with their hashes, the data with its counts.

    Only a clip is looked at with the models that videos get; stills take those of full precision, and no scout.
    """
    models = engine.models
    if kind != "clip":
        models = {
            role: {k: v for k, v in model.items() if k != "precision"}
            for role, model in models.items()
            if role != "scout"
        }
    return {
        "schema": f"facecam.eval/{kind}/1",
        "pack": engine.pack,
        "models": models,
        "device": engine.device.name,
        "data": data,
    }
