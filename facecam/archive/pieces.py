"""What the analysis of one segment gives, as plain values that travel between processes and rest in an index."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.archive.analysis import Record
from facecam.archive.naming import Part
from facecam.archive.report import hundredths
from facecam.values import Box, Image

#: A face of a frame: boxes in hundredths of a pixel, scores in ten-thousandths. Finer than what is written, and the
#: same numbers whether a piece was kept in an index or came straight from the analysis.
_FACE: Final = np.dtype([("track", "<i4"), ("box", "<i4", (4,)), ("score", "<i4")])
#: Fast; faces of neighbouring frames resemble each other, so that two thirds go anyway.
_LEVEL: Final = 1

#: (track, box) of the faces of one frame.
Faces = list[tuple[int, Box]]


@dataclass(slots=True)
class Edges:
    """Both ends of a segment, for joining it with its neighbours.

    Attributes:
        first, last: faces of the first and of the last frame. since, until: times of these, seconds.
        first_luma, last_luma: their thumbnails (`Frame.luma`).
    """

    first: Faces = field(default_factory=list)
    last: Faces = field(default_factory=list)
    since: float = 0.0
    until: float = 0.0
    first_luma: Image | None = None
    last_luma: Image | None = None


@dataclass(slots=True)
class Piece:
    """One analysed segment.

    Attributes:
        frames: decoded in it, also those that were not sampled. taken: frames analysed.
        data: the frames and their faces (`pack`). parts: its tracks. together: see `Analysis.together`.
        damaged: see `FileSource.damaged`. seconds: it took; stages: by stage, of `pipeline.Timing`.
        size: (width, height), upright; of a video, whose pictures may change, the largest.
    """

    frames: int
    taken: int
    data: bytes
    parts: list[Part]
    together: set[tuple[int, int]]
    edges: Edges
    damaged: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    detections: int = 0
    embeddings: int = 0
    size: tuple[int, int] = (0, 0)


class Packer:
    """Gathers records, frame after frame, in little memory."""

    def __init__(self) -> None:
        self._frames: list[tuple[int, float, int]] = []
        self._faces: list[tuple[int, tuple[int, ...], int]] = []
        self._done: list[tuple[NDArray[np.void], NDArray[np.void]]] = []

    def add(self, record: Record) -> None:
        self._frames.append((record.index, record.time, len(record.faces)))
        for track, box, score in record.faces:
            self._faces.append((track, hundredths(box), round(round(float(score), 4) * 10_000)))
        if len(self._frames) >= 10_000:
            self._flush()

    def _flush(self) -> None:
        frames = np.array(self._frames, [("index", "<i4"), ("time", "<f8"), ("count", "<i4")])
        self._done.append((frames, np.array(self._faces, _FACE)))
        self._frames, self._faces = [], []

    def packed(self) -> bytes:
        """Everything gathered: the number of frames, their indices, times, numbers of faces; the faces."""
        self._flush()
        frames = np.concatenate([f for f, _ in self._done])
        faces = np.concatenate([f for _, f in self._done])
        parts = [frames["index"], frames["time"], frames["count"], faces]
        raw = len(frames).to_bytes(8, "little") + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        return zlib.compress(raw, _LEVEL)


def unpack(data: bytes) -> Iterator[tuple[int, float, list[tuple[int, Box, float]]]]:
    """(index, time, faces as in `Record`) of each frame.

    Raises:
        ValueError: the bytes are not `Packer.packed`'s.
    """
    indices, times, counts, faces = arrays(data)
    boxes, scores = (faces["box"] / 100).tolist(), (faces["score"] / 10_000).tolist()
    everyone = [(track, tuple(box), score) for track, box, score in zip(faces["track"].tolist(), boxes, scores)]
    at = 0
    for index, time, n in zip(indices, times, counts):
        yield index, time, everyone[at : at + n]
        at += n


def arrays(data: bytes) -> tuple[list[int], list[float], list[int], NDArray[np.void]]:
    """Index, time and number of faces of each frame; all faces, in order: track, box in hundredths of a pixel, score in
    ten-thousandths.

    Raises:
        ValueError: the bytes are not `Packer.packed`'s.
    """
    try:
        raw = zlib.decompress(data)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    count = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 + 16 * count or (len(raw) - 8 - 16 * count) % _FACE.itemsize:
        raise ValueError("a segment's frames are cut short")
    indices = np.frombuffer(raw, "<i4", count, 8).tolist()
    times = np.frombuffer(raw, "<f8", count, 8 + 4 * count).tolist()
    counts = np.frombuffer(raw, "<i4", count, 8 + 12 * count).tolist()
    faces = np.frombuffer(raw, _FACE, -1, 8 + 16 * count)
    if sum(counts) != len(faces) or min(counts, default=0) < 0:
        raise ValueError("a segment's faces do not fit its frames")
    return indices, times, counts, faces
