"""A track of a video that was labelled before, looked at again: its boxes stand in the sightings file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from facecam.engine import Engine
from facecam.errors import MediaError, NoFaceFound, SourceError, UsageFault
from facecam.people.names import escaped
from facecam.people.quality import measure
from facecam.values import Box, Face, Image, Sample, Template
from facecam.video.sources import FileSource
from facecam.vision.align import align

#: Boxes of a track that are looked at again, and frames between them at least.
LOOKS: Final = 5
APART: Final = 10
#: Characters of one line of a sightings file: a frame full of faces has some thousands.
_LINE_MAX: Final = 10_000_000


def sightings_file(video: Path) -> Path:
    """Where ``facecam label`` left the sightings of a video: beside it, or in the current folder.

    Raises:
        SourceError: neither has them.
    """
    for folder in dict.fromkeys((video.parent, Path())):
        for stem in (video.stem, video.name):
            path = folder / f"{stem}.sightings.jsonl"
            if path.is_file():
                return path
    raise SourceError(
        f"{escaped(str(video))}: found no {escaped(video.stem)}.sightings.jsonl beside it; label the video first "
        "(facecam label), or name the file with --sightings"
    )


def track_boxes(sightings: Path, track: int) -> dict[int, Box]:
    """The boxes of a track by frame index.

    Raises:
        SourceError: the file cannot be read or is no sightings file of a video.
        UsageFault: it has no such track; the message names those that it has.
    """
    shown = escaped(str(sightings))
    boxes: dict[int, Box] = {}
    tracks: set[int] = set()
    try:
        with sightings.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LINE_MAX), ""), 1):
                entry = json.loads(line)
                if number == 1 and not str(entry["schema"]).startswith("facecam.sightings/1"):
                    raise ValueError("another schema")
                if entry["type"] == "frame":
                    _take(entry, track, boxes, tracks)
    except OSError as error:
        raise SourceError(f"{shown}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise SourceError(
            f"{shown}: expected a video's sightings file, as facecam label writes it ({type(error).__name__}: "
            f"{escaped(str(error))[:100]}); label the video again"
        ) from error
    if not boxes:
        known = ", ".join(map(str, sorted(tracks)[:20])) or "none"
        raise UsageFault(f"{shown}: has no track {track}; it has {known}")
    return boxes


def _take(entry: dict[str, Any], track: int, boxes: dict[int, Box], tracks: set[int]) -> None:
    for face in entry["faces"]:
        tracks.add(int(face["track"]))
        if face["track"] == track:
            x, y, w, h = (float(v) for v in face["box"])
            if w > 0 and h > 0 and np.isfinite([x, y, w, h]).all():
                boxes[int(entry["frame"])] = (x, y, w, h)


def largest(boxes: dict[int, Box], looks: int = LOOKS, apart: int = APART) -> list[int]:
    """The frames with the largest boxes, some frames apart, in order."""
    chosen: list[int] = []
    for index in sorted(boxes, key=lambda i: (-max(boxes[i][2:]), i)):
        if len(chosen) < looks and all(abs(index - other) >= apart for other in chosen):
            chosen.append(index)
    return sorted(chosen)


def sample_of_track(engine: Engine, video: Path, sightings: Path, track: int) -> Sample:
    """One sample of a track: the quality-weighted mean of its largest few faces.

    Raises:
        SourceError, UsageFault: see `track_boxes`.
        MediaError, NoFaceFound: the video cannot be decoded, or is not the one of the sightings.
    """
    boxes = track_boxes(sightings, track)
    wanted = largest(boxes)
    crops, qualities, seen = [], [], 0
    with FileSource(video) as frames:
        for frame in frames:
            if frame.index in wanted:
                seen += 1
                face = _face(engine, frame.image, boxes[frame.index])
                if face is not None:
                    crops.append(align(frame.image, face, engine.embedder.template))
                    qualities.append(measure(crops[-1], face).overall)
            if frame.index >= wanted[-1]:
                break
    if seen < len(wanted):
        raise MediaError(f"{video}: ends before track {track} does; the sightings are of another video")
    if not crops:
        raise NoFaceFound(f"{video}: shows no face where track {track} is; the sightings are of another video")
    vectors = engine.embedder.embed(crops, mirror=True)
    total = (vectors * np.array(qualities, np.float32)[:, None] ** 2).sum(axis=0)
    vector = (total / np.linalg.norm(total)).astype(np.float32)
    with video.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256(f"{content}:{wanted}:{[boxes[i] for i in wanted]}".encode()).hexdigest()
    return Sample(Template(vector, engine.embedder.space), digest, f"{video.name} track {track}", max(qualities))


def _face(engine: Engine, image: Image, box: Box) -> Face | None:
    """The face at the box, with landmarks; None if the detector is one that gives them and finds nothing there."""
    found = engine.detector.follow(image, [box])[0] or Face(box, 0.0)
    face = engine.landmarker.locate(image, [found])[0]
    return face if face.landmarks is not None else None
