"""Everything that the outputs of one input are made of, as plain values.

So they are the same whoever analysed the file, and can be made again from an index without decoding a frame (but
for the labelled copy).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facecam.archive import report
from facecam.archive.index import Limits
from facecam.archive.inputs import PHOTO
from facecam.archive.naming import TrackResult
from facecam.archive.pieces import arrays, unpack
from facecam.archive.presence import Appearance, of_faces, of_rows
from facecam.values import Box, Interval, SourceInfo

#: (index, time in seconds, faces as in `analysis.Record`) of one analysed frame.
FrameFaces = tuple[int, float, list[tuple[int, Box, float]]]


def frames_of(pieces: Iterable[tuple[bytes, Mapping[int, int], int]]) -> Iterator[FrameFaces]:
    """The frames of a file, segment after segment.

    Args:
        pieces: packed frames, the segment's tracks -> tracks of the file, number of frames decoded.
    """
    offset = 0
    for data, ids, decoded in pieces:
        same = all(local == track for local, track in ids.items())
        for index, at, faces in unpack(data):
            yield offset + index, at, faces if same else [(ids[t], box, score) for t, box, score in faces]
        offset += decoded


@dataclass(slots=True)
class Sheet:
    """One input, analysed and named.

    Attributes:
        path: of the input; source: how outputs call it; stem: of its outputs. header: of the sightings.
        pieces: for each segment its packed frames, its tracks -> tracks of the file, its limits, how many frames
            were decoded in it, and whether it is to be decoded steadily (`FileSource`).
        results, spans (`Timeline.spans`): by track. counts: of the `Timeline`.
        pictures: best context crop of a track, PNG or JPEG, as far as wanted.
        timing: of the analysis. damaged: as `FileSource.damaged`. whole: the video is not cut by --start or --end.
        largest: (width, height) of the largest picture of a video; its first one's are in ``info``.
        stamp: size in bytes and time of change in ns of the input when it was opened first.
    """

    path: Path
    kind: str
    source: str
    stem: str
    info: SourceInfo
    header: dict[str, Any]
    pieces: list[tuple[bytes, dict[int, int], Limits, int, bool]]
    results: dict[int, TrackResult]
    spans: dict[int, tuple[float, float, int]]
    counts: dict[str, int]
    pictures: dict[int, bytes] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    damaged: int = 0
    whole: bool = True
    largest: tuple[int, int] = (0, 0)
    stamp: tuple[int, int] = (0, 0)

    def rows(self) -> list[Interval]:
        """Of timeline.csv."""
        return report.intervals(self.source, self.spans, self.results)

    def frames(self) -> Iterator[FrameFaces]:
        """Each analysed frame."""
        return frames_of((data, ids, decoded) for data, ids, _, decoded, _ in self.pieces)

    def lines(self) -> Iterator[str]:
        """The lines of all frames in a sightings file."""
        coded = report.FrameLines(self.info, self.results, self.largest)
        offset = 0
        for data, ids, _, decoded, _ in self.pieces:
            indices, times, counts, faces = arrays(data)
            yield from coded.lines([offset + index for index in indices], times, counts, faces, ids)
            offset += decoded

    def appearances(self, pictures: Mapping[int, bytes] | None = None) -> list[Appearance]:
        """Who was seen when; ``pictures``: small ones, by track."""
        pictures = pictures or {}
        if self.kind == PHOTO:
            faces = self.photo_faces()
            return of_faces(faces, [pictures.get(number) for number in range(1, len(faces) + 1)])
        unknown = {track: result.unknown for track, result in self.results.items()}
        return of_rows(self.rows(), unknown, pictures)

    def photo_faces(self) -> list[dict[str, Any]]:
        """A photo's faces as they stand in photos.sightings.jsonl; the first one's track is 1."""
        (_, _, found), size = next(self.frames()), (self.info.width, self.info.height)
        results = [self.results[track] for track, _, _ in found]
        return [
            report.face_fields(box, score, result.match, result.unknown, *size)
            for (_, box, score), result in zip(found, results)
        ]

    def photo_line(self) -> dict[str, Any]:
        """A photo's line of photos.sightings.jsonl."""
        return {
            "type": "photo",
            "source": self.source,
            "width": self.info.width,
            "height": self.info.height,
            "faces": self.photo_faces(),
        }
