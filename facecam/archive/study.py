"""Looking at files: a video segment by segment, a photo at once. Gives plain values; names nobody for good.

What is done here depends on the file, the models, the settings and the gallery alone, not on which process of
which machine does it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from facecam.archive.analysis import Analysis, Record
from facecam.archive.index import Limits
from facecam.archive.inputs import PHOTO
from facecam.archive.naming import Part
from facecam.archive.pieces import Edges, Packer, Piece
from facecam.engine import Engine
from facecam.errors import MediaError, NothingDecoded, UsageFault
from facecam.evidence import Matches
from facecam.people.quality import measure
from facecam.scan import frames_ahead
from facecam.settings import min_face_pixels
from facecam.values import Face, Frame, Image, SourceInfo
from facecam.video.keyframes import borders
from facecam.video.photos import read_photo
from facecam.video.sources import FileSource
from facecam.vision.align import align
from facecam.vision.landmarks import locate_steadily
from facecam.vision.portrait import portrait
from facecam.vision.still import embed_stills, still_crops
from facecam.zoo.session import cores

#: Seconds of video that are analysed, kept and lost together. A border costs some hundred milliseconds (the whole
#: pyramid is searched anew) and a kill at most this much film.
SEGMENT: Final = 60.0
#: A video of up to so many of them is not divided.
DIVIDED: Final = 1.5


@dataclass(frozen=True, slots=True)
class Study:
    """What of the files is looked at. The same in all engines.

    Attributes:
        every: of a video, take each so many frames (a whole number) or one in so many seconds ("2s"); None: all.
        start, end: seconds from the video's first frame; None: its own.
        segment: seconds of a segment, about.
        pictures: whether the best picture of each track is kept.
    """

    every: str | None = None
    start: float | None = None
    end: float | None = None
    segment: float = SEGMENT
    pictures: bool = True

    def __post_init__(self) -> None:
        if self.every is not None and _every(self.every) is None:
            raise UsageFault(f"--every takes a number of frames (5) or seconds (2s), not {self.every!r}")
        if (self.start or 0) < 0 or (self.end is not None and self.end <= (self.start or 0)):
            raise UsageFault("--start and --end are seconds from the beginning, and --end comes after --start")

    def fingerprint(self, engine: Engine) -> str:
        """What analysing with these models and settings depends on, but for the gallery."""
        settings = engine.settings
        return repr(
            (2, sorted((role, model["sha256"]) for role, model in engine.models.items()), settings.detect_every,
             settings.min_face, sorted(asdict(self).items()))
        )  # fmt: skip


def _every(text: str) -> tuple[int, float] | None:
    """(frames, 0) or (0, seconds)."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s?)", text.strip().lower())
    if found is None or float(found[1]) <= 0:
        return None
    if found[2]:
        return 0, float(found[1])
    return (int(found[1]), 0.0) if float(found[1]).is_integer() else None


def sampled(frames: Iterable[Frame], every: str | None, origin: float) -> Iterator[Frame]:
    """The frames to look at; ``origin`` is the time of the file's first one, seconds."""
    frames_apart, seconds_apart = (_every(every) if every else None) or (1, 0.0)
    slot: int | None = None
    for frame in frames:
        if frames_apart:
            if frame.index % frames_apart == 0:
                yield frame
            continue
        now = math.floor((frame.time - origin) / seconds_apart + 1e-6)
        if now != slot:
            slot = now
            yield frame


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file is, before it is looked at.

    Attributes:
        info: of a video. limits: of its segments; one for a photo.
        size: bytes; modified: time of change, ns; digest: SHA-256 of the content, hex, "" where not asked for.
    """

    info: SourceInfo | None
    limits: list[Limits]
    size: int
    modified: int
    digest: str = ""


def survey(path: Path, kind: str, study: Study, *, hashed: bool) -> Survey:
    """Open a file and divide it.

    Raises:
        MediaError: it is no video, or cannot be read.
    """
    try:
        status = path.stat()
        digest = file_digest(path) if hashed and path.is_file() else ""
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise MediaError(f"{path}: {reason}") from error
    if kind == PHOTO:
        return Survey(None, [(None, None)], status.st_size, status.st_mtime_ns, digest)
    with FileSource(path) as source:
        info = source.info
    first = None if study.start is None else info.start_time + study.start
    last = None if study.end is None else info.start_time + study.end
    inner = []
    if info.duration is None or info.duration > DIVIDED * study.segment:
        inner = [t for t in borders(path, study.segment) if (first or t - 1) < t and (last is None or t < last)]
    edges = [first, *inner, last]
    return Survey(info, list(pairwise(edges)), status.st_size, status.st_mtime_ns, digest)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def study_segment(
    path: Path, limits: Limits, origin: float, engine: Engine, matcher: Matches, study: Study,
    progress: Callable[[int], None] = lambda frames: None,
) -> Piece:  # fmt: skip
    """Analyse a segment of a video by a recogniser of its own.

    Args:
        origin: time of the file's first frame, seconds. progress: told the number of frames decoded so far.

    Returns:
        its piece; one without frames where none can be decoded: the rest of the file may be whole.

    Raises:
        MediaError: it cannot be read.
    """
    engine.prepare()
    begun = time.perf_counter()
    try:
        piece = _study(path, limits, origin, engine, matcher, study, progress, steady=False)
        if piece.damaged:  # looked at again, so that every run over the file gives the same
            piece = _study(path, limits, origin, engine, matcher, study, progress, steady=True)
    except NothingDecoded:
        piece = Piece(0, 0, Packer().packed(), [], set(), Edges(), damaged=1)
    piece.seconds = time.perf_counter() - begun
    return piece


def _study(
    path: Path, limits: Limits, origin: float, engine: Engine, matcher: Matches, study: Study,
    progress: Callable[[int], None], *, steady: bool,
) -> Piece:  # fmt: skip
    recogniser = engine.recogniser(matcher)
    analysis = Analysis(recogniser)
    recogniser.portraits = study.pictures
    packer, edges = Packer(), Edges()
    counted = taken = 0
    size = 0, 0
    lumas: list[Image] = []

    def watched(source: FileSource) -> Iterator[Frame]:
        nonlocal counted
        for frame in source.ahead():
            counted += 1
            yield frame

    def kept(frames: Iterator[Frame]) -> Iterator[Frame]:
        nonlocal size
        for frame in frames:
            lumas[1:] = [frame.luma]
            size = max(size[0], frame.width), max(size[1], frame.height)
            yield frame

    last: Record | None = None
    with FileSource(path, *limits, steady=steady, lean=cores() <= 2) as source:
        depth = frames_ahead(source.info.width, source.info.height)
        frames = kept(sampled(watched(source), study.every, origin))
        with contextlib.closing(analysis.records(frames, ahead=depth)) as records:
            for record in records:
                if last is None:
                    edges.first, edges.since = _faces(record), record.time
                packer.add(record)
                last, taken = record, taken + 1
                progress(counted)
        damaged = source.damaged
    if last is None:
        raise NothingDecoded(f"{path}: no frame of the stretch that was asked for can be decoded")
    edges.last, edges.until = _faces(last), last.time
    edges.first_luma, edges.last_luma = lumas[0], lumas[-1]
    timing = recogniser.timing
    return Piece(
        counted, taken, packer.packed(), analysis.parts, analysis.together, edges, damaged,
        stages=dict(timing.seconds), detections=timing.detections, embeddings=timing.embeddings, size=size,
    )  # fmt: skip


def _faces(record: Record) -> list[tuple[int, tuple[float, float, float, float]]]:
    return [(track, box) for track, box, _ in record.faces]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A face of a single picture: where, and what is known of it."""

    face: Face
    part: Part


def look(image: Image, engine: Engine, *, pictures: bool) -> list[Look]:
    """All faces of a single picture, left to right, numbered from 1.

    Args:
        image: BGR uint8, H x W x 3. pictures: whether to keep a picture of each.
    """
    faces = engine.detector.detect(image, min_face_pixels(engine.settings.min_face, image.shape[0]))
    if not faces:
        return []
    faces = locate_steadily(engine.landmarker, image, faces)
    crops = [align(image, face, engine.embedder.template) for face in faces]
    vectors = embed_stills(engine.embedder, [still_crops(image, face, engine.embedder.template) for face in faces])
    found = []
    for face, crop, vector in zip(faces, crops, vectors):
        quality = measure(crop, face).overall
        total = quality**2 * vector.astype("f8")
        picture = portrait(image, face, quality) if pictures else None
        part = Part(0, True, 1.0, 0.0, total, quality**2, 1, quality, True, [vector], picture)
        found.append(Look(face, part))
    found.sort(key=lambda entry: entry.face.box[0])
    return [Look(entry.face, replace(entry.part, track=number)) for number, entry in enumerate(found, 1)]


def study_photo(path: Path, engine: Engine, study: Study) -> tuple[Piece, Image]:
    """Analyse a photo.

    Returns:
        its piece, and the picture, upright, for who wants to draw on it.

    Raises:
        MediaError: it cannot be read.
    """
    begun = time.perf_counter()
    image = read_photo(path)
    looks = look(image, engine, pictures=study.pictures)
    packer = Packer()
    packer.add(Record(0, 0.0, [(entry.part.track, entry.face.box, entry.face.score) for entry in looks]))
    piece = Piece(1, 1, packer.packed(), [entry.part for entry in looks], set(), Edges())
    piece.size = image.shape[1], image.shape[0]
    piece.seconds = time.perf_counter() - begun
    return piece, image


def source_info(values: dict[str, Any]) -> SourceInfo:
    """A SourceInfo out of an index."""
    return SourceInfo(**values)
